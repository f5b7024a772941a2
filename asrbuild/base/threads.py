"""Work in threads that stop at their next :func:`interrupts.check` when their caller fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from asrbuild.base import interrupts

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

#: Threads for requests to a server or a disk, which wait most of the time.
IO_THREADS = 8
#: How long a failed call waits for its threads; one that waits for a silent server is left running.
_GRACE_SECONDS = 1.0
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool for work concurrent with the caller's.

    When the block fails, waiting work is cancelled, running work stops at its next check, and the
    pool waits for it.
    """
    from concurrent.futures import ThreadPoolExecutor

    cancelled = threading.Event()
    with ThreadPoolExecutor(threads, initializer=interrupts.stop_on, initargs=(cancelled,)) as pool:
        try:
            yield pool
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_concurrently(
    work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = IO_THREADS
) -> list[_Result]:
    """Does the work for every item in so many threads; the results in the order of the items.

    The first failure, or Ctrl-C, cancels the rest: waiting items are dropped, and running ones stop
    at their next check. It is raised when all have stopped, or after a second.
    """
    todo: SimpleQueue[tuple[int, _Item]] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    results: dict[int, _Result] = {}
    for entry in enumerate(items):
        todo.put(entry)
    cancelled = threading.Event()

    def run() -> None:
        interrupts.stop_on(cancelled)
        failure = None
        while failure is None and not cancelled.is_set():
            try:
                index, item = todo.get_nowait()
            except Empty:
                break
            try:
                results[index] = work(item)
            except BaseException as error:
                failure = error
        ended.put(failure)

    # Daemons: a thread that waits for a silent server does not delay the end of the process.
    count = min(threads, todo.qsize())
    started = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    try:
        for thread in started:
            thread.start()
        for _ in started:
            if (failure := ended.get()) is not None:
                raise failure
    finally:
        cancelled.set()
        until = time.monotonic() + _GRACE_SECONDS
        for thread in started:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
    return [results[index] for index in sorted(results)]
