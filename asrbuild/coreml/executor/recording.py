"""Shows the operands and results of every op that the executor runs to a watcher.

A package that is loaded outside of ``watching`` has no step that knows of it: an op is wrapped when
its package is compiled, so bits and speed of all other packages stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Takes the operands and the result of one run of an op. A float16 constant of an op that computes
#: comes widened to float32.
Seen = Callable[[Sequence[Any], Any], None]


@dataclass(frozen=True)
class Site:
    """One op or layer of a program.

    Args:
        path: enclosing blocks and its own name, ``while_loop body > gates``.
        kind: its name in the MIL reference, or the layer's in NeuralNetwork.proto.
        operands: name of each argument, in the order of a run; ``input`` for each blob of a layer.
        dtypes: declared type of each argument; a list of them for an argument that takes several
            values; None where there is none.
        constant: whether each argument is a constant.
    """

    path: str
    kind: str
    operands: tuple[str, ...]
    dtypes: tuple[np.dtype[Any] | list[np.dtype[Any] | None] | None, ...]
    constant: tuple[bool, ...]


#: Chooses the ops that are watched; None: this one is not.
Watcher = Callable[[Site], Seen | None]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Shows the ops of the packages that are loaded inside to ``watcher``."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watched(run: Callable[..., Any], site: Callable[[], Site]) -> Callable[..., Any]:
    """``run``, or where a watcher asks for the op, ``run`` that shows it what went in and out."""
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
