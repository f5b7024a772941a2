"""DeepSpeech: its checkpoints, frozen graphs and .tflite files."""
