"""Ctrl-C that counts, also where a library swallows the exception it raises.

Some catch everything while they are imported or convert, and a build would go on to its end. So
the key press is remembered as well, and looked at between two stages.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pressed = False


@contextmanager
def remembered() -> Iterator[None]:
    """Remembers an interrupt for as long as this lasts; in the main thread only."""
    global _pressed
    _pressed = False
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where the caller has it ignored
        signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _remember(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt


def check() -> None:
    """Raises ``KeyboardInterrupt`` if there was an interrupt that came to nothing."""
    if _pressed:
        raise KeyboardInterrupt
