"""``asrbuild fit``: which processors of a device can run a Core ML package, without the device.

``operations`` reads the package, ``rules`` is a table of rules with their sources, ``counts``
computes exact figures, ``verdict`` applies the table, ``page`` describes the results.
"""
