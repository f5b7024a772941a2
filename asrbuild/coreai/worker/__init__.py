"""What the isolated Python runs: it imports nothing of asrbuild, and lowers and runs Core AI."""
