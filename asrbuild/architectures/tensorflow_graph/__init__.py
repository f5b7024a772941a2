"""TensorFlow: any frozen graph or SavedModel, cut at operations that coremltools cannot convert."""
