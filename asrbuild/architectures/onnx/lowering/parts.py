"""Lowers joins, splits and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.arithmetic import as_integers
from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of, shape_of
from asrbuild.architectures.onnx.lowering.values import (
    Value,
    as_sizes,
    is_boolean,
    is_open,
    type_name,
)

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


@lowers("Concat")
def concat(call: NodeCall, *parts: Value) -> Var:
    """Joins along one axis."""
    axis, given = call.attribute("axis"), [call.var(part) for part in parts]
    if len(given) == 1:
        return given[0]
    if is_boolean(given[0]):
        joined = mb.concat(values=[as_integers(part) for part in given], axis=axis)
        return mb.cast(x=joined, dtype="bool")
    return mb.concat(values=given, axis=axis)


@lowers("Split")
def split(call: NodeCall, x: Value, sizes: Value = None) -> Any:
    """Splits into as many parts as the node has outputs: of given or equal sizes."""
    x, axis, count = call.var(x), call.attribute("axis", 0), len(call.node.outputs)
    given = call.attribute("split") or (None if sizes is None else call.numbers(sizes, "sizes"))
    size = shape_of(x)[axis]
    if count == 1:
        return x
    if given is None and not is_open(size):
        part = -(-size // count)  # the last one may be smaller
        given = [part] * (count - 1) + [size - part * (count - 1)]
    if given is None:
        return mb.split(x=x, axis=axis, num_splits=count)
    return mb.split(x=x, axis=axis, split_sizes=given)


@lowers("Pad")
def pad(
    call: NodeCall, x: Value, pads: Value = None, fill: Value = None, axes: Value = None
) -> Var:
    """Pads with a constant, mirrored or with the outermost elements; negative padding cuts."""
    x, rank = call.var(x), rank_of(x)
    given = call.attribute("pads") or call.numbers(pads, "padding")
    along = list(range(rank)) if axes is None else [a % rank for a in call.numbers(axes, "axes")]
    before, after = [0] * rank, [0] * rank
    for at, axis in enumerate(along):
        before[axis], after[axis] = given[at], given[at + len(along)]
    mode = call.attribute("mode", "constant")
    if mode not in _PAD_MODES:
        raise call.no_form(f"the mode {mode}")
    if any(not is_open(size) and size < 0 for size in (*before, *after)):
        x = mb.slice_by_index(
            x=x,
            begin=[max(0, -size) for size in before],
            end=[min(0, size) for size in after],
            end_mask=[size >= 0 for size in after],
        )
        before, after = ([max(0, size) for size in sizes] for sizes in (before, after))
    if not any((*before, *after)):
        return x
    if mode == "constant":
        number = call.attribute("value", 0.0) if fill is None else call.var(fill)
        return _padded(call, x, before, after, "constant", np.float32(number))
    return _mirrored(call, x, before, after, _PAD_MODES[mode])


def _padded(
    call: NodeCall, x: Var, before: list[Any], after: list[Any], mode: str, fill: np.float32
) -> Var:
    amounts = [size for pair in zip(before, after, strict=True) for size in pair]
    while len(amounts) > 2 and not any(amounts[:2]):
        amounts = amounts[2:]
    if type_name(x) == "fp32":
        return mb.pad(x=x, pad=call.var(as_sizes(amounts)), mode=mode, constant_val=fill)
    as_float = mb.cast(x=x, dtype="fp32")
    padded = mb.pad(x=as_float, pad=call.var(as_sizes(amounts)), mode=mode, constant_val=fill)
    return mb.cast(x=padded, dtype=type_name(x))


def _mirrored(call: NodeCall, x: Var, before: list[Any], after: list[Any], mode: str) -> Var:
    """Mirrors axes: Core ML mirrors the last two of three or more, so others are moved there."""
    rank = rank_of(x)
    wide = x if rank > 2 else mb.expand_dims(x=x, axes=list(range(3 - rank)))
    offset = rank_of(wide) - rank
    for axis in range(rank):
        if not before[axis] and not after[axis]:
            continue
        order = list(range(rank_of(wide)))
        order[axis + offset], order[-1] = order[-1], order[axis + offset]
        last = mb.transpose(x=wide, perm=order)
        last = _padded(call, last, [before[axis]], [after[axis]], mode, np.float32(0))
        wide = mb.transpose(x=last, perm=order)
    return wide if offset == 0 else mb.squeeze(x=wide, axes=list(range(offset)))
