"""Faster conversion: changes to how coremltools works, none to what it makes."""
