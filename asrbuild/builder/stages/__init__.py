"""The stages of a build, one module each, with its declaration and its function."""
