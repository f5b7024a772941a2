"""Lowers changes of shape or order: reshape, transpose, broadcast, fill."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

from asrbuild.architectures.onnx.lowering.arithmetic import as_integers
from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of, shape_of
from asrbuild.architectures.onnx.lowering.values import (
    Value,
    as_sizes,
    is_boolean,
    is_open,
    same_size,
)


@lowers("Identity", "Dropout")
def identity(call: NodeCall, x: Value, *settings: Value) -> Value:
    """The unchanged input, also for ops that act only in training."""
    return (x, *(None for _ in call.node.outputs[1:]))


@lowers("Reshape")
def reshape(call: NodeCall, x: Value, shape: Value) -> Var:
    """A single open size becomes the -1 that the package infers."""
    sizes = call.numbers_or_none(shape)
    x = call.var(x)
    if sizes is None:
        return mb.reshape(x=x, shape=shape)
    if not call.attribute("allowzero", 0):
        sizes = [shape_of(x)[at] if size == 0 else size for at, size in enumerate(sizes)]
    return reshape_to(call, x, sizes)


def reshape_to(call: NodeCall, x: Var, sizes: list[Any]) -> Var:
    """``x`` with these sizes, of which one may be -1."""
    if not sizes:
        return mb.squeeze(x=x)
    open_ones = [at for at, size in enumerate(sizes) if is_open(size)]
    if len(open_ones) == 1 and -1 not in sizes:
        sizes[open_ones[0]] = -1
    if is_boolean(x):  # before iOS17 MIL cannot reshape truth values
        return mb.cast(x=reshape_to(call, as_integers(x), sizes), dtype="bool")
    return mb.reshape(x=x, shape=call.var(as_sizes(sizes)))


@lowers("Flatten")
def flatten(call: NodeCall, x: Value) -> Var:
    """Flattens to a matrix: the axes before ``axis``, and those from it on."""
    x, sizes = call.var(x), shape_of(x)
    axis = call.attribute("axis", 1)
    axis += len(sizes) if axis < 0 else 0
    return reshape_to(call, x, [sympy.prod(sizes[:axis]), sympy.prod(sizes[axis:])])


@lowers("Transpose")
def transpose(call: NodeCall, x: Value) -> Var:
    """Reorders the axes; without an order, reverses them."""
    x = call.var(x)
    order = call.attribute("perm") or list(range(rank_of(x)))[::-1]
    return mb.transpose(x=x, perm=list(order))


@lowers("Squeeze")
def squeeze(call: NodeCall, x: Value, axes: Value = None) -> Var:
    """Removes axes of size 1."""
    found = call.axes(axes)
    x = call.var(x)
    return mb.squeeze(x=x) if found is None else mb.squeeze(x=x, axes=found)


@lowers("Unsqueeze")
def unsqueeze(call: NodeCall, x: Value, axes: Value = None) -> Var:
    """Inserts axes of size 1."""
    return mb.expand_dims(x=call.var(x), axes=call.axes(axes))


@lowers("Expand")
def expand(call: NodeCall, x: Value, shape: Value) -> Var:
    """Broadcasts to a shape, which may have fewer axes than ``x``."""
    x, wanted = call.var(x), call.numbers(shape, "a shape")
    have = shape_of(x)
    wanted = [1] * (len(have) - len(wanted)) + wanted
    have = [1] * (len(wanted) - len(have)) + have
    if len(have) != rank_of(x):
        x = reshape_to(call, x, list(have))
    repeats = []
    for own, size in zip(have, wanted, strict=True):
        if own == 1:
            repeats.append(size)
        elif size == 1 or same_size(own, size):
            repeats.append(1)
        else:
            raise call.no_form(f"the sizes {own} and {size}, which may differ,")
    return _tile(call, x, as_sizes(repeats))


@lowers("Tile")
def tile(call: NodeCall, x: Value, repeats: Value) -> Var:
    """Repeats along the axes."""
    return _tile(call, call.var(x), repeats)


def _tile(call: NodeCall, x: Var, repeats: Value) -> Var:
    if call.numbers_or_none(repeats) == [1] * rank_of(x):
        return x
    if is_boolean(x):
        return mb.cast(x=_tile(call, as_integers(x), repeats), dtype="bool")
    return mb.tile(x=x, reps=call.var(repeats))


@lowers("ConstantOfShape")
def constant_of_shape(call: NodeCall, shape: Value) -> Var:
    """A tensor of one number."""
    value = call.attribute("value")
    number = np.float32(0) if value is None else call.constant(value, "a value").ravel()[0]
    if number.dtype.kind != "b":
        return mb.fill(shape=call.var(shape), value=number)
    return mb.cast(x=mb.fill(shape=call.var(shape), value=np.int32(number)), dtype="bool")


@lowers("Range")
def range_(call: NodeCall, start: Value, limit: Value, delta: Value) -> Var:
    """A range of equidistant numbers."""
    start, limit, delta = (call.var(value) for value in (start, limit, delta))
    return mb.range_1d(start=start, end=limit, step=delta)


@lowers("DepthToSpace")
def depth_to_space(call: NodeCall, x: Value) -> Var:
    """Moves channels to blocks of pixels."""
    x, size = call.var(x), call.attribute("blocksize")
    batch, channels, height, width = shape_of(x)
    rest = channels // (size * size)
    if call.attribute("mode", "DCR") == "DCR":
        split, order = [batch, size, size, rest, height, width], [0, 3, 4, 1, 5, 2]
    else:
        split, order = [batch, rest, size, size, height, width], [0, 1, 4, 2, 5, 3]
    blocks = mb.transpose(x=reshape_to(call, x, split), perm=order)
    return reshape_to(call, blocks, [batch, rest, height * size, width * size])


@lowers("SpaceToDepth")
def space_to_depth(call: NodeCall, x: Value) -> Var:
    """Moves blocks of pixels to channels."""
    x, size = call.var(x), call.attribute("blocksize")
    batch, channels, height, width = shape_of(x)
    split = [batch, channels, height // size, size, width // size, size]
    blocks = mb.transpose(x=reshape_to(call, x, split), perm=[0, 3, 5, 1, 2, 4])
    wide = [batch, channels * size * size, height // size, width // size]
    return reshape_to(call, blocks, wide)
