"""Core ML packages: writes them with two front ends, runs them, and inspects them."""
