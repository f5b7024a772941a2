"""Faster conversion and execution: changes to how libraries work, none to what they make.

The first line of each module says what it gains. All are turned off by ``ASRBUILD_NO_SPEEDUPS=1``,
some by their names: ``ASRBUILD_NO_SPEEDUPS=placeholders,session``.
"""

from __future__ import annotations

import os

SWITCH = "ASRBUILD_NO_SPEEDUPS"


def enabled(name: str) -> bool:
    """Whether a speed-up is to be used; ``name`` is the last part of its module's name."""
    off = os.environ.get(SWITCH, "")
    return off in ("", "0") or not (off == "1" or name in off.split(","))
