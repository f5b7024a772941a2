"""Lowers control flow and states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import values
from ..apple import raw, tensor_type
from ..call import Call, op
from ..lowering import lower_block, refined
from ..values import dims

#: Ops that replace a state.
_WRITING = ("write_state", "coreml_update_state")


@op("while_loop")
def while_loop(call: Call) -> Any:
    """Lowers a loop; it carries the states that its blocks write as well."""
    lowering = call.lowering
    condition, body = call.blocks
    written = _written(call.blocks)
    first = [*call.values("loop_vars"), *(lowering.states[name] for name in written)]
    zero = values.hidden_zero(lowering.first)
    inits = [values.of_unknown_length(value, zero) for value in first]
    results, (before, after) = raw.while_(results=[init.type for init in inits], inits=inits)
    with before:
        _enter(call, condition, before.arguments, written)
        (more,) = lower_block(lowering, condition)
        raw.condition(values.scalar(more), *before.arguments)
    with after:
        arguments = list(after.arguments)
        _enter(call, body, arguments, written)
        made = [*lower_block(lowering, body), *(lowering.states[name] for name in written)]
        made = [_copied(value) if value in arguments else value for value in made]
        raw.yield_(
            [
                values.of_unknown_length(refined(value, dims(one)), zero)
                for value, one in zip(made, first, strict=True)
            ]
        )
    carried = [
        refined(value, dims(one)) for value, one in zip(as_list(results), first, strict=True)
    ]
    count = len(carried) - len(written)
    lowering.states.update(zip(written, carried[count:], strict=True))
    return carried[:count]


def _written(blocks: list[Any]) -> list[str]:
    """The names of the states that blocks write, in order."""
    found: dict[str, None] = {}
    for block in blocks:
        for operation in block["operations"]:
            if operation["type"] in _WRITING:
                inputs = operation["inputs"]
                found[inputs.get("input", inputs.get("state"))[0]] = None
            found.update(dict.fromkeys(_written(operation["blocks"])))
    return list(found)


def _enter(call: Call, block: Any, arguments: Sequence[Any], written: list[str]) -> None:
    """Defines a loop block's inputs, and the states that it carries."""
    names = block["inputs"]
    call.lowering.known.update(zip(names, list(arguments)[: len(names)], strict=True))
    call.lowering.states.update(zip(written, list(arguments)[len(names) :], strict=True))


def _copied(value: Any) -> Any:
    """A copy of a value.

    The runtime loses one of two values that a loop swaps: it overwrites it before reading it.
    """
    same = raw.or_ if values.dtype_of(value) is np.bool_ else raw.maximum
    return same(value, value)


def as_list(results: Any) -> list[Any]:
    """The results of an op as a list; a single result is not a list."""
    return [results] if hasattr(results, "type") else list(results)


@op("cond")
def cond(call: Call) -> Any:
    """Runs both blocks and selects, if they have the same shapes: small blocks do not compile."""
    lowering = call.lowering
    truth = values.scalar(call.value("pred"))
    count = len(call.operation["outputs"])
    if all(None not in call.shape(number) for number in range(count)):
        written = _written(call.blocks)
        before = dict(lowering.states)
        found = []
        for block in call.blocks:
            lowering.states.update(before)
            found.append(
                [*lower_block(lowering, block), *(lowering.states[name] for name in written)]
            )
        chosen = [values.where(truth, yes, no) for yes, no in zip(*found, strict=True)]
        lowering.states.update(zip(written, chosen[count:], strict=True))
        return chosen[:count]
    if _written(call.blocks):
        raise call.refused("a state that is written and results of unknown shapes")
    types = [
        tensor_type([-1 if size is None else size for size in call.shape(n)], call.output_dtype(n))
        for n in range(count)
    ]
    results, builders = raw.if_(results=types, condition=truth)
    for builder, block in zip(builders, call.blocks, strict=True):
        with builder:
            raw.yield_(lower_block(lowering, block))
    return as_list(results)


@op("read_state")
def read_state(call: Call) -> Any:
    (name,) = call.names("input")
    return call.lowering.states[name]


@op(*_WRITING)
def write_state(call: Call) -> Any:
    argument, data = ("input", "data") if call.has("input") else ("state", "value")
    (name,) = call.names(argument)
    value = call.value(data)
    call.lowering.states[name] = value
    return [value for _ in call.operation["outputs"]]
