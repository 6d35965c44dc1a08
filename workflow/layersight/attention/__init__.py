"""How a model divides its attention between the image and the text."""
