"""Work that ends when nobody wants it any more: after Ctrl-C, or when what it was for has failed.

Some libraries catch everything while they are imported or convert, the exception of Ctrl-C too, and
a build would go on to its end. So the key press is remembered as well. A thread beside the main one
never gets that exception. Both are looked at between two stages and wherever something waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_pressed = False
#: What was under way when an interrupt came, where that may never have ended.
_place = ""
_thread = threading.local()


@contextmanager
def remembered() -> Iterator[None]:
    """Remembers an interrupt for as long as this lasts; in the main thread only."""
    global _pressed, _place
    _pressed, _place = False, ""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where the caller has it ignored
        signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        # What comes after in this process was not meant.
        _pressed = False
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _remember(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt


def was_in(place: str) -> None:
    """Notes where an interrupt came, for the person who waited; the innermost place stays."""
    global _place
    _place = _place or place


def place() -> str:
    """Where the last interrupt came, if that was noted."""
    return _place


@contextmanager
def beside(threads: int = 1) -> Iterator[ThreadPoolExecutor]:
    """Threads for work beside the caller's; where the caller fails, they end at their next check.

    What is not begun by then is cancelled; what is, is waited for.
    """
    from concurrent.futures import ThreadPoolExecutor

    abandoned = threading.Event()

    def know() -> None:
        _thread.abandoned = abandoned

    with ThreadPoolExecutor(threads, initializer=know) as pool:
        try:
            yield pool
        except BaseException:
            abandoned.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check() -> None:
    """Raises ``KeyboardInterrupt`` where this thread's work has nobody left to wait for it."""
    abandoned = getattr(_thread, "abandoned", None)
    if _pressed or (abandoned is not None and abandoned.is_set()):
        raise KeyboardInterrupt
