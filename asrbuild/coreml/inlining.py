"""Inlines a program of coremltools into the function that is being built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asrbuild.coreml.speedups.importing import import_coremltools


def inlined(block: Any, values: Mapping[Any, Any]) -> list[Any]:
    """Adds the operations of a block of a MIL program to the current function.

    Args:
        block: a function or an inner block, which is not changed.
        values: the values of its inputs in the current function.

    Returns:
        The values of its outputs in the current function.
    """
    mb = import_coremltools().converters.mil.Builder
    known = dict(values)

    def here(value: Any) -> Any:
        return tuple(map(here, value)) if isinstance(value, (list, tuple)) else known[value]

    def inner(of: Any) -> Callable[..., Any]:
        def build(*given: Any) -> Any:
            made = inlined(of, known | dict(zip(of.inputs, given, strict=True)))
            return made[0] if len(made) == 1 else tuple(made)

        return build

    for operation in block.operations:
        if operation.op_type == "const":
            made = mb.const(val=operation.outputs[0].val, name=operation.name)
        else:
            given = {
                name: here(value) for name, value in operation.inputs.items() if value is not None
            }
            if operation.op_type in _BLOCKS:
                builders = map(inner, operation.blocks)
                given |= dict(zip(_BLOCKS[operation.op_type], builders, strict=True))
            made = getattr(mb, operation.op_type)(**given, name=operation.name)
        results = made if isinstance(made, (list, tuple)) else [made]
        known |= zip(operation.outputs, results, strict=True)
    return [known[value] for value in block.outputs]


#: Arguments of the builder with a function for each block of an operation.
_BLOCKS = {"while_loop": ("_cond", "_body"), "cond": ("_true_fn", "_false_fn")}
