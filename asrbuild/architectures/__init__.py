"""The model families that can be built, one folder each."""
