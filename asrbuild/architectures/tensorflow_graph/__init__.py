"""Any frozen TensorFlow graph that coremltools can convert, cut where it cannot."""
