"""What a device measured of an artifact: the kit that measures, the checks, what is kept."""
