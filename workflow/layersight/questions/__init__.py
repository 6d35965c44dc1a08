"""Sets of questions from elsewhere: reading them, their pictures, and what is asked of them."""
