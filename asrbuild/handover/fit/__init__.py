"""What can be said of a Core ML package's place on a device without having run it on one.

``operations`` reads the package, ``rules`` is the table of what is known, ``counts`` has exact
figures, ``verdict`` applies the table, ``page`` puts it into words.
"""
