"""Watchers: functions that see the operands and results of every op that the executor runs.

An op is wrapped when its package is compiled, inside of ``watching``, so bits and speed of all
other packages are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A function of the operands and the result of one run of an op. Float16 constants of arithmetic
#: ops are widened to float32.
Seen = Callable[[Sequence[Any], Any], None]


@dataclass(frozen=True)
class Site:
    """One op or layer of a program.

    Args:
        path: names of the enclosing blocks and its own name, ``while_loop body > gates``.
        kind: its type in the MIL reference, or the layer's in NeuralNetwork.proto.
        operands: name of each argument, in the order of a run; ``input`` for each blob of a layer.
        dtypes: declared type of each argument; a list for an argument with several values; None if
            there is none.
        constant: whether each argument is a constant.
    """

    path: str
    kind: str
    operands: tuple[str, ...]
    dtypes: tuple[np.dtype[Any] | list[np.dtype[Any] | None] | None, ...]
    constant: tuple[bool, ...]


#: Chooses the watcher of an op; None: the op is not watched.
Watcher = Callable[[Site], Seen | None]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Attaches ``watcher`` to the ops of packages that are loaded inside the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watched(run: Callable[..., Any], site: Callable[[], Site]) -> Callable[..., Any]:
    """``run``; for a watched op, wrapped so that the watcher sees operands and result."""
    watcher = _watcher.get()
    seen = None if watcher is None else watcher(site())
    if seen is None:
        return run
    show = seen

    def run_watched(*arguments: Any) -> Any:
        result = run(*arguments)
        show(arguments, result)
        return result

    return run_watched
