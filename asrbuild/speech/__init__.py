"""From sound to words, without TensorFlow: audio, features, alphabets, decoding, error rates."""
