"""Cancellation: Ctrl-C, SIGTERM, SIGHUP, and threads whose caller has failed.

All three signals raise ``KeyboardInterrupt`` in the main thread, so that each leaves the same state
behind. Some libraries catch every exception while they are imported or convert, and a build would
go on to its end; so the signal is recorded as well. A thread other than the main one never gets
that exception. :func:`check` looks for both, between two stages and wherever something waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
#: The signal that ended the work, or None.
_caught: signal.Signals | None = None
#: The place in the program where an interrupt came, if that might have run without end.
_place = ""
_thread = threading.local()


@contextmanager
def remembered() -> Iterator[None]:
    """Turns the three signals into ``KeyboardInterrupt`` inside the block; main thread only.

    A signal that the caller ignores (``nohup``) or handles itself stays as it is.
    """
    global _caught, _place
    _caught, _place = None, ""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [n for n, how in before.items() if how in (signal.SIG_DFL, signal.default_int_handler)]
    for number in ours:
        signal.signal(number, _remember)
    try:
        yield
    finally:
        # Work that follows in this process is not cancelled.
        _caught = None
        for number in ours:
            signal.signal(number, before[number])


def _remember(number: int, frame: FrameType | None) -> None:
    global _caught
    _caught = signal.Signals(number)
    raise KeyboardInterrupt


def caught() -> signal.Signals:
    """The signal behind the last ``KeyboardInterrupt``."""
    return _caught or signal.SIGINT


def was_in(place: str) -> None:
    """Records the place where an interrupt came, for the message; the innermost place stays."""
    global _place
    _place = _place or place


def place() -> str:
    """The place where the last interrupt came, if it is recorded."""
    return _place


def stop_on(event: threading.Event) -> None:
    """From now on, :func:`check` in this thread raises once the event is set."""
    _thread.event = event


def check() -> None:
    """Raises ``KeyboardInterrupt`` after a signal, or when this thread's caller has failed."""
    event: threading.Event | None = getattr(_thread, "event", None)
    if _caught is not None or (event is not None and event.is_set()):
        raise KeyboardInterrupt
