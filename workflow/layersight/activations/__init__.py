"""Reading activations off a model while it runs, and keeping them."""
