"""The isolated Python that lowers to Core AI and runs it; it imports nothing of asrbuild."""
