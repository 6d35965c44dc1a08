"""Where pictures and words come from, and the tables made of them."""
