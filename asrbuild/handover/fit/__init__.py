"""Predictions of the units of a device that take a Core ML package, without running it there.

``operations`` reads the package, ``rules`` is the table of what is known, ``counts`` has exact
figures, ``verdict`` applies the table, ``page`` puts it into words.
"""
