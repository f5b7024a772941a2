"""Processes that kill themselves at a chosen line of asrbuild, so that no ``finally`` runs."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.paths import PACKAGE

#: Added to the seeds of the tests that kill and damage at random: another number gives other
#: moments.
SEED = int(os.environ.get("ASRBUILD_TEST_SEED", "0"))


def seeded(seed: int) -> random.Random:
    """The random generator of a test, from its own seed."""
    return random.Random(seed + SEED)


def run_until(point: int, work: Callable[[], object], ours: Path = PACKAGE) -> int:
    """Runs the work up to its ``point``-th line below ``ours``; 0: to the end, counting lines.

    Lines of the threads that it starts count as well.
    """
    numbers = itertools.count(1)
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(str(ours)):
            return None
        if event == "line":
            lines = next(numbers)
            if lines == point:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    work()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    return lines
