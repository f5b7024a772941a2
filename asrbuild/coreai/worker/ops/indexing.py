"""Lowers reading and writing by index: ``gather*`` and ``scatter*``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import dims, ints, rank


def _counted_from_the_start(indices: Any, size: Any) -> Any:
    """Makes negative indices, which count from the end of an axis of this size, positive."""
    if values.dtype_of(indices) is not np.int32:
        indices = raw.cast(indices, np.int32)
    if rank(indices) == 0 and rank(size):
        size = raw.shrink_dims(size, ints(0))
    below = raw.broadcasting_greater(*values.same_rank(values.index(0), indices))
    return values.where(below, values.add(indices, size), indices)


def _indices(call: Call, x: Any, axis: int) -> Any:
    """The indices of an axis, made positive."""
    size = dims(x)[axis]
    if call.is_constant("indices"):
        known = call.array("indices").astype(np.int32)
        if not (known < 0).any():
            return values.const(known)
        if size is not None:
            return values.const(np.where(known < 0, known + size, known).astype(np.int32))
    counted = values.size_of(x, axis) if size is None else values.index(size)
    return _counted_from_the_start(call.value("indices"), counted)


def _swapped(x: Any, axis: int, to: int) -> Any:
    """Moves an axis of a value to another place."""
    if axis == to:
        return x
    order = [other for other in range(rank(x)) if other != axis]
    order.insert(to, axis)
    return raw.transpose(x, values.unsigned(*order))


@op("gather")
def gather(call: Call) -> Any:
    x = call.value("x")
    axis = int(call.number("axis", 0)) % rank(x)
    indices = _indices(call, x, axis)
    if int(call.number("batch_dims", 0)):
        return _each(call, x, indices, lambda entry, own: _gathered(entry, own, axis - 1))
    return _gathered(x, indices, axis)


def _gathered(x: Any, indices: Any, axis: int) -> Any:
    front = _swapped(x, axis, 0)
    taken = raw.gather_nd(front, raw.expand_dims(indices, ints(rank(indices))))
    # The axes of the indices come first; move them to the place of the axis.
    count, others = rank(indices), rank(x) - 1
    if axis == 0 or (count == 0 and others <= 1):
        return taken
    order = [*range(count, count + axis), *range(count), *range(count + axis, count + others)]
    return raw.transpose(taken, values.unsigned(*order))


def _each(call: Call, x: Any, indices: Any, gathered: Callable[[Any, Any], Any]) -> Any:
    """A gather with batch axes, as one gather for each entry of the batch."""
    if int(call.number("batch_dims")) != 1 or dims(x)[0] is None:
        raise call.refused("batch_dims other than 0 and 1, or a batch of unknown size")
    parts = []
    for number in range(dims(x)[0] or 0):
        entry, own = (
            raw.shrink_dims(values.cut(value, 0, number, number + 1), ints(0))
            for value in (x, indices)
        )
        parts.append(raw.expand_dims(gathered(entry, own), ints(0)))
    return raw.concat(values.index(0), parts)


@op("gather_along_axis")
def gather_along_axis(call: Call) -> Any:
    x = call.value("x")
    axis = int(call.number("axis", 0)) % rank(x)
    return raw.gather_along_axis(x, _indices(call, x, axis), values.index(axis))


@op("gather_nd")
def gather_nd(call: Call) -> Any:
    x = call.value("x")
    if int(call.number("batch_dims", 0)):
        return _each(call, x, call.value("indices"), _gathered_nd)
    return raw.gather_nd(x, _places(call, x))


def _gathered_nd(x: Any, indices: Any) -> Any:
    sizes = _first_sizes(x, dims(indices)[-1] or 0)
    return raw.gather_nd(x, _counted_from_the_start(indices, sizes))


def _places(call: Call, x: Any) -> Any:
    """Indices of several axes, made positive."""
    if call.is_constant("indices") and not (call.array("indices") < 0).any():
        return values.const(call.array("indices").astype(np.int32))
    indices = call.value("indices")
    return _counted_from_the_start(indices, _first_sizes(x, dims(indices)[-1] or 0))


def _first_sizes(x: Any, count: int) -> Any:
    """A vector with the sizes of the first axes."""
    sizes = dims(x)[:count]
    if None in sizes:
        return raw.slice_(values.shape_of(x), ints(0), ints(count), ints(1))
    return ints(*(size or 0 for size in sizes))


def _combined(call: Call, mode: str, held: Any, updates: Any) -> Any:
    """The values to write: the updates, or their combination with the old values."""
    if mode == "update":
        return updates
    if not _once(call):
        raise call.refused(f"mode {mode} and indices that may repeat")
    combine: Any = {
        "add": values.add,
        "sub": values.sub,
        "mul": values.mul,
        "div": values.divide,
        "max": raw.broadcasting_maximum,
        "min": raw.broadcasting_minimum,
    }[mode]
    return combine(held, updates)


def _once(call: Call) -> bool:
    """Whether all indices differ."""
    if call.is_constant("indices"):
        known = call.array("indices")
        rows = known.reshape(-1, known.shape[-1]) if "nd" in call.type else known.reshape(-1, 1)
        return bool(len(np.unique(rows, axis=0)) == len(rows))
    sizes = dims(call.value("indices"))
    sizes = sizes[:-1] if "nd" in call.type else sizes
    return all(size == 1 for size in sizes)


@op("scatter")
def scatter(call: Call) -> Any:
    data, updates = call.value("data"), call.value("updates")
    axis, mode = int(call.number("axis", 0)) % rank(data), call.array("mode", "add")
    indices = _indices(call, data, axis)
    count = rank(indices)
    if axis:
        order = [*range(axis, axis + count), *range(axis), *range(axis + count, rank(updates))]
        updates = raw.transpose(updates, values.unsigned(*order))
    front = _swapped(data, axis, 0)
    places = raw.expand_dims(indices, ints(count))
    held = None if mode == "update" else raw.gather_nd(front, places)
    return _swapped(raw.scatter_nd(front, places, _combined(call, mode, held, updates)), 0, axis)


@op("scatter_nd")
def scatter_nd(call: Call) -> Any:
    data, mode = call.value("data"), call.array("mode", "add")
    places = _places(call, data)
    held = None if mode == "update" else raw.gather_nd(data, places)
    return raw.scatter_nd(data, places, _combined(call, mode, held, call.value("updates")))


@op("scatter_along_axis")
def scatter_along_axis(call: Call) -> Any:
    data, mode = call.value("data"), call.array("mode", "add")
    if mode != "update":
        raise call.refused(f"mode {mode}")
    axis = int(call.number("axis", 0)) % rank(data)
    indices, updates = _indices(call, data, axis), call.value("updates")
    return raw.scatter_along_axis(data.type, data, indices, updates, values.index(axis))
