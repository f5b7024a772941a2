"""For ops with blocks: predicates, and the names that a block reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.coreml.executor.program import Compiler


def is_true(value: Any) -> bool:
    """The truth of a predicate with one value, of any rank."""
    return bool(np.asarray(value).reshape(()))


def reads_below(compiler: Compiler, operation: Any) -> list[int]:
    """Slots of enclosing blocks that the op's blocks read, which must live until the op ends."""
    found: set[int] = set()
    for block in operation.blocks:
        names = names_read(block)
        found.update(slot for name in names if (slot := compiler.lookup(name)) is not None)
    return sorted(found)


def names_read(block: Any) -> list[str]:
    """Every name that a block and its inner blocks read, once for each read."""
    names = list(block.outputs)
    for operation in block.operations:
        for argument in operation.inputs.values():
            names += [b.name for b in argument.arguments if b.WhichOneof("binding") == "name"]
        for inner in operation.blocks:
            names += names_read(inner)
    return names
