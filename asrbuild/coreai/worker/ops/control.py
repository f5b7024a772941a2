"""Blocks and state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import values
from ..apple import raw, tensor_type
from ..lowering import Call, op, refined
from ..values import ints, rank


def _truth(value: Any) -> Any:
    return raw.shrink_dims(value, ints(*range(rank(value)))) if rank(value) else value


@op("while_loop")
def while_loop(call: Call) -> Any:
    lowering = call.lowering
    condition, body = call.blocks
    inits = _as_declared(call, body)
    results, (before, after) = raw.while_(results=[init.type for init in inits], inits=inits)
    with before:
        lowering.known.update(zip(condition["inputs"], before.arguments, strict=True))
        (more,) = lowering.block(condition)
        raw.condition(_truth(more), *before.arguments)
    with after:
        lowering.known.update(zip(body["inputs"], after.arguments, strict=True))
        made = lowering.block(body)
        raw.yield_(
            [refined(value, values.dims(init)) for value, init in zip(made, inits, strict=True)]
        )
    return (
        list(results) if len(inits) > 1 else [results if hasattr(results, "type") else results[0]]
    )


def _as_declared(call: Call, body: Mapping[str, Any]) -> list[Any]:
    """What a loop carries, with the sizes that its outputs are declared to have."""
    return call.values("loop_vars")


@op("cond")
def cond(call: Call) -> Any:
    lowering = call.lowering
    types = [
        tensor_type([-1 if size is None else size for size in call.shape(n)], call.output_dtype(n))
        for n in range(len(call.operation["outputs"]))
    ]
    results, builders = raw.if_(results=types, condition=_truth(call.value("pred")))
    for builder, block in zip(builders, call.blocks, strict=True):
        with builder:
            raw.yield_(lowering.block(block))
    return (
        list(results) if len(types) > 1 else [results if hasattr(results, "type") else results[0]]
    )


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
