"""Evidence of devices: the kit that measures, the checks of its results, and the kept files."""
