"""Calls side by side, so that no product is made twice and matrices meet as few as possible.

Calls run in threads that meet at every new product with large weights: when all that still run wait
for one, their rows are put together, multiplied, and handed out again.

    call 1:  x1 ─┐                         ┌─► x1 @ W.T ─► ... h1 ─┐
    call 2:  x2 ─┴► (x1; x2) @ W.T, once  ─┴─► x2 @ W.T ─► ... h2 ─┴► h1 @ R.T, h2 @ R.T ...

A call's result is the same bits in any company, and alone. So a call's one row, a step of an LSTM,
stays one: BLAS rounds it otherwise than rows together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from asrbuild.base.array import Array
from asrbuild.coreml.executor.products import LARGE, Products, multiply, shared
from asrbuild.coreml.speedups import enabled

Result = TypeVar("Result")
#: Package size in bytes from which calls are worth it. Smaller weights stay in the processor's
#: cache.
_LARGE_PACKAGE = 16_000_000


def run_calls(package: Path, calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of calls of one package, in order: ``together`` where that is worth it."""
    products = shared() if enabled("together") else None
    files = package.rglob("*") if package.is_dir() else (package,)
    if products is not None and sum(file.stat().st_size for file in files) >= _LARGE_PACKAGE:
        return together(calls, products)
    return [call() for call in calls]


def together(calls: Sequence[Callable[[], Result]], products: Products) -> list[Result]:
    """The calls' results, in order. What they multiply is added to ``products``.

    Raises:
        Exception: what the first call that failed raised; the others are given up.
    """
    meeting = _Meeting(len(calls), products)
    with ThreadPoolExecutor(max(len(calls), 1)) as threads:
        try:
            running = [
                threads.submit(meeting.attend, order, call) for order, call in enumerate(calls)
            ]
            errors = [future.exception() for future in running]
        except BaseException:  # Ctrl-C: the calls stop at their next product
            meeting.failed = True
            raise
    for error in sorted(filter(None, errors), key=lambda e: isinstance(e, _GivenUpError)):
        raise error
    return [future.result() for future in running]


def rows_times(x: Array, weight: Array) -> Array:
    """``x @ weight.T`` for ``x (..., I)`` and ``weight (O, I)``, met with other calls' if any."""
    if weight.size < LARGE:
        return multiply(x, weight)
    if _place.meeting is None:
        products = shared()
        if products is None:
            return multiply(x, weight)
        (product,) = products.rows_times([x.reshape(-1, x.shape[-1])], weight)
        return product.reshape(*x.shape[:-1], len(weight))
    return _place.meeting.rows_times(x, weight)


class _GivenUpError(BaseException):
    """Another call of the meeting failed; no op may tell this as a failure of its own."""


class _Seat:
    """One call's wait for a product."""

    def __init__(self, order: int, x: Array, weight: Array) -> None:
        self.order, self.x, self.weight = order, x, weight
        self.result: Array | None = None
        self.served = threading.Lock()
        self.served.acquire()


class _Meeting:
    """Where calls wait for each other."""

    def __init__(self, calls: int, products: Products) -> None:
        self.failed = False
        self._running = calls
        self._products = products
        self._waiting: list[_Seat] = []
        self._lock = threading.Lock()

    def attend(self, order: int, call: Callable[[], Result]) -> Result:
        """Runs a call in this thread; ``order`` decides where its rows go."""
        _place.meeting, _place.order = self, order
        try:
            return call()
        except BaseException:
            self.failed = True
            raise
        finally:
            _place.meeting = None
            with self._lock:
                self._running -= 1
                complete = 0 < self._running == len(self._waiting)
            if complete:
                self._serve()

    def rows_times(self, x: Array, weight: Array) -> Array:
        """Waits until every call is here or has ended; for what was made before, it need not."""
        if x.size == x.shape[-1]:
            made = self._products.known(x.reshape(1, -1), weight)
            if made is not None and not self.failed:
                return made.reshape(*x.shape[:-1], len(weight))
        seat = _Seat(_place.order, x, weight)
        with self._lock:
            self._waiting.append(seat)
            complete = self._running == len(self._waiting)
        if complete:
            self._serve()
        seat.served.acquire()
        if seat.result is None:
            raise _GivenUpError
        return seat.result

    def _serve(self) -> None:
        """Makes everybody's product. All who run are waiting, so nobody else is in here."""
        # The order of the calls, not of their arrival: the same rows at the same places each time.
        seats, self._waiting = sorted(self._waiting, key=lambda seat: seat.order), []
        groups: dict[int, list[_Seat]] = {}
        for seat in seats:
            groups.setdefault(id(seat.weight), []).append(seat)
        try:
            for group in groups.values():
                if not self.failed:
                    self._multiply(group)
        finally:
            for seat in seats:
                seat.served.release()

    def _multiply(self, group: list[_Seat]) -> None:
        weight = group[0].weight
        rows = [seat.x.reshape(-1, seat.x.shape[-1]) for seat in group]
        for seat, product in zip(group, self._products.rows_times(rows, weight), strict=True):
            seat.result = product.reshape(*seat.x.shape[:-1], len(weight))


class _Place(threading.local):
    """The meeting that this thread's call takes part in, and its number there."""

    meeting: _Meeting | None = None
    order = 0


_place = _Place()
