"""The genuine ds-ctcdecoder, run by a Python of its own."""
