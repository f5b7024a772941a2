"""Speed-ups: patches of other libraries that do not change any result.

The first line of each module has its measured gain. ``ASRBUILD_NO_SPEEDUPS=1`` turns all off,
``ASRBUILD_NO_SPEEDUPS=placeholders,session`` those that it names.
"""

from __future__ import annotations

import os

SWITCH = "ASRBUILD_NO_SPEEDUPS"


def enabled(name: str) -> bool:
    """Whether a speed-up is on; ``name`` is the last part of its module's name."""
    off = os.environ.get(SWITCH, "")
    return off in ("", "0") or not (off == "1" or name in off.split(","))
