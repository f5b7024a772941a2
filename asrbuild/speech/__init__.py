"""Speech without TensorFlow: audio, features, labels, CTC decoding and error rates."""
