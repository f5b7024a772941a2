"""Lowers access by index: gather, scatter, largest elements, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.arithmetic import as_integers
from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of, shape_of
from asrbuild.architectures.onnx.lowering.values import (
    Value,
    is_boolean,
    is_known,
    is_open,
    scalar,
)

_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _positive(call: NodeCall, x: Value, indices: Value, axis: int) -> Any:
    """Makes indices positive: Core ML does not count from the end on every device."""
    size, indices = shape_of(x)[axis], call.var(indices)
    if is_known(indices):
        if (indices >= 0).all():
            return indices
        if not is_open(size):
            return np.where(indices < 0, indices + np.int32(size), indices).astype(np.int32)
    behind = mb.add(x=indices, y=call.size_ops.number(size))
    return mb.select(cond=mb.less(x=indices, y=np.int32(0)), a=behind, b=indices)


@lowers("Gather")
def gather(call: NodeCall, x: Value, indices: Value) -> Var:
    """Whole slices along one axis."""
    axis = call.attribute("axis", 0) % rank_of(x)
    at = _positive(call, x, indices, axis)
    x = call.var(x)
    if is_boolean(x):
        return mb.cast(x=mb.gather(x=as_integers(x), indices=at, axis=axis), dtype="bool")
    return mb.gather(x=x, indices=at, axis=axis)


@lowers("GatherElements")
def gather_elements(call: NodeCall, x: Value, indices: Value) -> Var:
    """One element for each index, along one axis."""
    axis = call.attribute("axis", 0) % rank_of(x)
    at, x = _positive(call, x, indices, axis), call.var(x)
    have, wanted = shape_of(x), shape_of(indices)
    if smaller := [n for n in range(rank_of(x)) if n != axis and have[n] != wanted[n]]:
        if any(is_open(size) for n in smaller for size in (have[n], wanted[n])):
            raise call.no_form("indices of another size along an open axis")
        ends = [wanted[n] if n in smaller else 0 for n in range(rank_of(x))]
        whole = [n not in smaller for n in range(rank_of(x))]
        x = mb.slice_by_index(x=x, begin=[0] * rank_of(x), end=ends, end_mask=whole)
    return mb.gather_along_axis(x=x, indices=at, axis=axis)


@lowers("GatherND")
def gather_nd(call: NodeCall, x: Value, indices: Value) -> Var:
    """Slices at indices along the first axes."""
    if call.attribute("batch_dims", 0):
        raise call.no_form("batch_dims")
    return mb.gather_nd(x=call.var(x), indices=call.var(indices))


@lowers("ScatterElements")
def scatter_elements(call: NodeCall, x: Value, indices: Value, updates: Value) -> Var:
    """A copy with single elements replaced."""
    axis = call.attribute("axis", 0) % rank_of(x)
    at, rank = _positive(call, x, indices, axis), rank_of(x)
    given = {"data": call.var(x), "updates": call.var(updates), "mode": _mode(call)}
    have, wanted = shape_of(x), shape_of(indices)
    if all(n == axis or have[n] == wanted[n] for n in range(rank)):
        return mb.scatter_along_axis(indices=at, axis=axis, **given)
    if not is_known(at):
        raise call.no_form("indices that are computed from data and of another size")
    places = list(np.indices(at.shape, np.int32))
    places[axis] = at
    return mb.scatter_nd(indices=np.stack(places, axis=-1), **given)


@lowers("ScatterND")
def scatter_nd(call: NodeCall, x: Value, indices: Value, updates: Value) -> Var:
    """A copy with slices at indices along the first axes replaced."""
    data, at, rows = call.var(x), call.var(indices), call.var(updates)
    return mb.scatter_nd(data=data, indices=at, updates=rows, mode=_mode(call))


def _mode(call: NodeCall) -> str:
    return _MODES[call.attribute("reduction", "none")]


@lowers("TopK")
def top_k(call: NodeCall, x: Value, count: Value = None) -> tuple[Var, Var]:
    """The largest or smallest elements of an axis and their indices, in order."""
    given = call.attribute("k") if count is None else call.numbers(count, "a number of elements")[0]
    found = mb.topk(
        x=call.var(x),
        k=given,
        axis=call.attribute("axis", -1),
        ascending=not call.attribute("largest", 1),
    )
    return found[0], found[1]


@lowers("OneHot")
def one_hot(call: NodeCall, indices: Value, depth: Value, values: Value) -> Var:
    """A row with one element on for each index."""
    (size,) = call.numbers(depth, "a depth")
    off, on = call.numbers(values, "values")
    at, kind = call.var(indices), call.constant(values, "values").dtype.type
    if not is_known(at):
        behind = mb.add(x=at, y=np.int32(size))
        at = mb.select(cond=mb.less(x=at, y=np.int32(0)), a=behind, b=at)
    return mb.one_hot(
        indices=at,
        one_hot_vector_size=size,
        axis=call.attribute("axis", -1),
        on_value=kind(on),
        off_value=kind(off),
    )


@lowers("Trilu")
def triangle(call: NodeCall, x: Value, diagonal: Value = None) -> Var:
    """The upper or lower triangle of matrices, zeros elsewhere."""
    x = call.var(x)
    if is_boolean(x):
        return mb.cast(x=triangle(call, as_integers(x), diagonal), dtype="bool")
    k = 0 if diagonal is None else call.numbers(diagonal, "a diagonal")[0]
    if call.attribute("upper", 1):
        if k <= 0:
            return mb.band_part(x=x, lower=-k, upper=-1)
        outside = {"lower": -1, "upper": k - 1}
    else:
        if k >= 0:
            return mb.band_part(x=x, lower=-1, upper=k)
        outside = {"lower": -k - 1, "upper": -1}
    # A band includes the diagonal, so the complement of the triangle is used.
    ones = mb.cast(x=mb.equal(x=x, y=x), dtype="int32")
    inside = mb.equal(x=mb.band_part(x=ones, **outside), y=np.int32(0))
    return mb.select(cond=inside, a=x, b=scalar(x, 0))
