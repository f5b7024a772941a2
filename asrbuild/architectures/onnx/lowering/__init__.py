"""From ONNX ops to MIL ops, written with coremltools' builder: one file a family of ops."""
