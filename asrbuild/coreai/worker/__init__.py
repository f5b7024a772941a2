"""The worker in the isolated Python, which lowers packages and runs them without asrbuild."""
