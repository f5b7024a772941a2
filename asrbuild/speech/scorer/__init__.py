"""DeepSpeech scorers: read, compared with an alphabet, estimated from text and written."""
