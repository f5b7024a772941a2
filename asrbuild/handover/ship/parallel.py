"""Work done side by side: most files are small, and take as long as the way there and back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

from asrbuild.base import interrupts

#: Each waits for a server or a disk most of the time.
AT_ONCE = 8
#: Work that waits for a server notices only then that it was given up; it is left to itself after.
_GIVEN_UP_SECONDS = 1.0
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_this = threading.local()


def abreast(
    work: Callable[[_Item], _Result], items: Iterable[_Item], most: int = AT_ONCE
) -> list[_Result]:
    """Does the work for every item, so many at a time; the results in the order of the items.

    The first failure, or Ctrl-C, ends it: what is not begun never is, what is under way ends at its
    next :func:`check`. It is raised once all have ended, or after a second.
    """
    todo: SimpleQueue[tuple[int, _Item]] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    results: dict[int, _Result] = {}
    for entry in enumerate(items):
        todo.put(entry)
    abandoned = threading.Event()

    def run() -> None:
        _this.abandoned = abandoned
        failure = None
        while failure is None and not abandoned.is_set():
            try:
                place, item = todo.get_nowait()
            except Empty:
                break
            try:
                results[place] = work(item)
            except BaseException as error:
                failure = error
        ended.put(failure)

    # Daemons: one that waits for a silent server does not hold up the end of the process.
    count = min(most, todo.qsize())
    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            if (failure := ended.get()) is not None:
                raise failure
    finally:
        abandoned.set()
        until = time.monotonic() + _GIVEN_UP_SECONDS
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
    return [results[place] for place in sorted(results)]


def check() -> None:
    """Raises ``KeyboardInterrupt`` where nobody waits for this thread's work any more."""
    interrupts.check()
    abandoned = getattr(_this, "abandoned", None)
    if abandoned is not None and abandoned.is_set():
        raise KeyboardInterrupt
