"""Frozen TensorFlow graphs: reads, writes, inspects and runs them."""
