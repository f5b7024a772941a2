"""Channels: signed pointers with a counter, so that an old one is not taken for the newest.

``record`` is one signed record, ``chain`` proves the records of a channel, ``seen`` remembers what
each channel pointed at, and ``move`` adds records. The format is docs/bundle-format.md.
"""
