"""The architectures: families of models that asrbuild can build, one folder each."""
