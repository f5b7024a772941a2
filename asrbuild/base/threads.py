"""Concurrent work in threads, which stop when the caller fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from asrbuild.base import interrupts

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

#: Number of threads for requests to a server or a disk, which wait most of the time.
IO_THREADS = 8
#: Seconds that a failed call waits for its threads; one that waits for a silent server goes on.
_GRACE_SECONDS = 1.0
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Workers:
    """A pool of threads for work concurrent with the caller; see :func:`workers`."""

    pool: ThreadPoolExecutor
    begun: list[Future[Any]] = field(default_factory=list)

    def submit(self, work: Callable[..., _Result], *given: Any) -> Future[_Result]:
        """Begins work in a thread."""
        future = self.pool.submit(work, *given)
        self.begun.append(future)
        return future

    def wait(self, needed: Sequence[Future[Any]]) -> None:
        """Waits for these results; raises the exception of any work that fails meanwhile."""
        from concurrent.futures import FIRST_COMPLETED, wait

        while needed:
            for future in self.begun:
                if future.done():
                    future.result()
            if all(future.done() for future in needed):
                return
            wait((f for f in self.begun if not f.done()), return_when=FIRST_COMPLETED)


@contextmanager
def workers(threads: int) -> Iterator[Workers]:
    """Yields a pool of threads for work concurrent with the caller.

    When the block fails, waiting work is cancelled, running work stops at its next check, and the
    block waits for it.
    """
    from concurrent.futures import ThreadPoolExecutor

    cancelled = threading.Event()
    with ThreadPoolExecutor(threads, initializer=interrupts.stop_on, initargs=(cancelled,)) as pool:
        try:
            yield Workers(pool)
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_concurrently(
    work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = IO_THREADS
) -> list[_Result]:
    """Runs ``work`` on every item in so many threads; returns the results in the items' order.

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

    # Daemon threads: one that waits for a silent server does not delay the end of the process.
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
