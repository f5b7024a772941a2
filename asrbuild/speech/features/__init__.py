"""Features of each kind: turns samples into the input of a network."""
