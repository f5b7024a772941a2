"""The number of processors that this process may use."""

from __future__ import annotations

import os


def usable_processors() -> int:
    """Those that this process may use: under ``taskset``, or in a job of a cluster, not all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
