"""Features of each kind: samples to what a network reads."""
