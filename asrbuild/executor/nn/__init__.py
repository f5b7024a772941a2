"""Neural network layers; importing this package registers them."""
