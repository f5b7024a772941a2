"""Evidence of devices: the kit that measures, the checks, and the kept files."""
