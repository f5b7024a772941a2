"""DeepSpeech's own decoder, ds-ctcdecoder, which runs in a Python 3.9 of its own."""
