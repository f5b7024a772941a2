"""DeepSpeech's own decoder, ds-ctcdecoder, run by a Python of its own."""
