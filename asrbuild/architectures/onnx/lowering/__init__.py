"""Lowers ONNX ops to MIL ops with coremltools' builder: one file a family of ops."""
