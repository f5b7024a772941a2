"""Spares 8 % of a cold build (1.7 s of 21.0 s of CPU time, 2048 units): runs that share a reading.

A step of a recurrent layer multiplies one row, which takes as long as reading the weights, and the
rows of a short call do not fill a block. So several runs go on until each needs such products, and
the weights are read once for all of them. A row's product does not depend on the other rows, so the
results are the same bits as those of one run at a time.

One run at a time has the turn; nothing of a program needs to be safe in threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from asrbuild.base import interrupts
from asrbuild.base.array import Array
from asrbuild.coreml.executor.products import BLOCK, Products, RowArrays, make_with, shared

#: Runs at a time. More of them hold more memory, and the longest of them sets the time.
_LANES = 4
_Result = TypeVar("_Result")
#: A run that asks for so many rows fills its own blocks, and does not wait for others.
_MANY = 2 * BLOCK
#: Rows to multiply, and the weights (O, I).
_Asked = tuple[RowArrays, Array]


class _StoppedError(BaseException):
    """Ends a lane whose caller has failed."""


@dataclass(eq=False)
class _Lane:
    """A thread that does one work after another, and asks for the products of few rows.

    ``asked`` has None when no work is left, and what was raised when work failed.
    """

    products: Products
    todo: Iterator[Callable[[], None]]
    cancelled: threading.Event
    asked: SimpleQueue[_Asked | BaseException | None] = field(default_factory=SimpleQueue)
    given: SimpleQueue[RowArrays | None] = field(default_factory=SimpleQueue)

    def run(self) -> None:
        interrupts.stop_on(self.cancelled)
        make_with(self._make)
        try:
            self._wait()
            for work in self.todo:
                work()
        except BaseException as error:
            self.asked.put(error)
        else:
            self.asked.put(None)

    def _make(self, rows: RowArrays, weight: Array) -> RowArrays:
        if len(rows) >= _MANY:
            return self.products.make(rows, weight)
        self.asked.put((rows, weight))
        made: RowArrays = self._wait()
        return made

    def _wait(self) -> Any:
        given = self.given.get()
        if self.cancelled.is_set():
            raise _StoppedError
        return given


def in_lockstep(works: Iterable[Callable[[], _Result]]) -> list[_Result]:
    """Does every work, several at a time inside of ``sharing``; the results in their order.

    The first failure stops the others and is raised.
    """
    products = shared()
    if products is None:
        return [work() for work in works]
    results: dict[int, _Result] = {}

    def kept(number: int, work: Callable[[], _Result]) -> Callable[[], None]:
        return lambda: results.update({number: work()})

    todo = iter([kept(number, work) for number, work in enumerate(works)])
    cancelled = threading.Event()
    lanes = [_Lane(products, todo, cancelled) for _ in range(_LANES)]
    threads = [threading.Thread(target=copy_context().run, args=(lane.run,)) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        asked: dict[_Lane, _Asked] = {}
        turns: list[tuple[_Lane, RowArrays | None]] = [(lane, None) for lane in lanes]
        while turns:
            interrupts.check()
            asked |= _until_asked(turns)
            turns = _made(products, {lane: asked.pop(lane) for lane in _served_first(asked)})
    finally:
        cancelled.set()
        for lane, thread in zip(lanes, threads, strict=True):
            lane.given.put(None)
            thread.join()
    return [results[number] for number in sorted(results)]


def _until_asked(turns: Iterable[tuple[_Lane, RowArrays | None]]) -> Iterator[tuple[_Lane, _Asked]]:
    """Gives each lane what it asked for, and then the turn until it asks again or ends."""
    for lane, given in turns:
        lane.given.put(given)
        asked = lane.asked.get()
        if isinstance(asked, BaseException):
            raise asked
        if asked is not None:
            yield lane, asked


def _served_first(asked: dict[_Lane, _Asked]) -> list[_Lane]:
    """The lanes whose products are made next: those of blocks, or else all, of single rows.

    The step of one lane takes as long as a step of all lanes, so it waits for the others' blocks.
    """
    blocks = [lane for lane, (rows, _) in asked.items() if len(rows) > 1]
    return blocks or list(asked)


def _made(products: Products, asked: dict[_Lane, _Asked]) -> list[tuple[_Lane, RowArrays | None]]:
    """The products that the lanes asked for; those of the same weights are made together."""
    rows: dict[bytes, RowArrays] = {}
    weights: dict[bytes, Array] = {}
    for own, weight in asked.values():
        name = next(iter(own))[0]
        rows.setdefault(name, {}).update(own)
        weights[name] = weight
    made: RowArrays = {}
    for name, every in rows.items():
        made |= products.make(every, weights[name])
    return [(lane, {key: made[key] for key in own}) for lane, (own, _) in asked.items()]
