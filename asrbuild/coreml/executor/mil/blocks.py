"""What ops with blocks share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from asrbuild.coreml.executor.program import Compiler


def is_true(value: Any) -> bool:
    """A predicate of one value, of any rank."""
    return bool(np.asarray(value).reshape(()))


def reads_below(compiler: Compiler, operation: Any) -> list[int]:
    """Slots of enclosing blocks that the op's own blocks read, so that they live until its end."""
    found: set[int] = set()
    for block in operation.blocks:
        names = names_read(block)
        found.update(slot for name in names if (slot := compiler.lookup(name)) is not None)
    return sorted(found)


def names_read(block: Any) -> list[str]:
    """Every name that a block reads, blocks inside it included; a name once per reading."""
    names = list(block.outputs)
    for operation in block.operations:
        names += names_given(operation)
    return names


def names_given(operation: Any) -> list[str]:
    """Every name that an op reads, in its own blocks too."""
    names = [
        binding.name
        for argument in operation.inputs.values()
        for binding in argument.arguments
        if binding.WhichOneof("binding") == "name"
    ]
    for inner in operation.blocks:
        names += names_read(inner)
    return names


def kinds_below(operation: Any) -> Iterator[str]:
    """The op's type, and those of all ops in its blocks."""
    yield operation.type
    for inner in operation.blocks:
        for each in inner.operations:
            yield from kinds_below(each)
