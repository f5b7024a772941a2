"""A small streaming network of two causal convolutions, whose states are cached rows."""
