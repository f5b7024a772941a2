"""DeepSpeech: checkpoints, the inference graph, and frozen graphs made of them."""
