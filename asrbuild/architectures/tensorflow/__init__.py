"""Frozen TensorFlow graphs: read, write, inspect, and run as the reference."""
