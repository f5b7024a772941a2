"""Blocks and state."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw, tensor_type
from ..lowering import Call, op, refined
from ..values import dims, ints, rank


def _truth(value: Any) -> Any:
    return raw.shrink_dims(value, ints(*range(rank(value)))) if rank(value) else value


@op("while_loop")
def while_loop(call: Call) -> Any:
    lowering = call.lowering
    condition, body = call.blocks
    inits = call.values("loop_vars")
    results, (before, after) = raw.while_(results=[init.type for init in inits], inits=inits)
    with before:
        lowering.known.update(zip(condition["inputs"], before.arguments, strict=True))
        (more,) = lowering.block(condition)
        raw.condition(_truth(more), *before.arguments)
    with after:
        arguments = list(after.arguments)
        lowering.known.update(zip(body["inputs"], arguments, strict=True))
        made = [
            refined(value, dims(init))
            for value, init in zip(lowering.block(body), inits, strict=True)
        ]
        raw.yield_([_copied(value) if value in arguments else value for value in made])
    return as_list(results)


def _copied(value: Any) -> Any:
    """A value in memory of its own.

    The runtime loses one of two values that a loop swaps: it overwrites what it has yet to read.
    """
    same = raw.or_ if values.dtype_of(value) is np.bool_ else raw.maximum
    return same(value, value)


def as_list(results: Any) -> list[Any]:
    """The results of an op, which alone are no list."""
    return [results] if hasattr(results, "type") else list(results)


@op("cond")
def cond(call: Call) -> Any:
    """Both blocks are run where they give the same shapes: small ones do not compile as blocks."""
    lowering = call.lowering
    truth = _truth(call.value("pred"))
    count = len(call.operation["outputs"])
    if all(None not in call.shape(number) for number in range(count)):
        yes, no = (lowering.block(block) for block in call.blocks)
        return [values.where(truth, one, other) for one, other in zip(yes, no, strict=True)]
    types = [
        tensor_type([-1 if size is None else size for size in call.shape(n)], call.output_dtype(n))
        for n in range(count)
    ]
    results, builders = raw.if_(results=types, condition=truth)
    for builder, block in zip(builders, call.blocks, strict=True):
        with builder:
            raw.yield_(lowering.block(block))
    return as_list(results)


@op("read_state")
def read_state(call: Call) -> Any:
    (name,) = call.names("input")
    return call.lowering.states[name]


@op("write_state", "coreml_update_state")
def write_state(call: Call) -> Any:
    argument, data = ("input", "data") if call.has("input") else ("state", "value")
    (name,) = call.names(argument)
    value = call.value(data)
    call.lowering.states[name] = value
    return [value for _ in call.operation["outputs"]]
