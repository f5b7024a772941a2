"""DeepSpeech scorers: reads them, compares them with an alphabet, and builds them from text."""
