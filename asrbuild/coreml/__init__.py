"""Core ML packages: two front ends that write them, and a reader that describes them."""
