"""Slices: ``slice_by_index``, ``slice_by_size``, ``slice_update``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..lowering import Call, op
from ..values import END, dims, ints, rank


def _mask(call: Call, name: str, count: int) -> list[bool]:
    mask = call.array(name)
    return [False] * count if mask is None else [bool(one) for one in np.atleast_1d(mask)]


def _bounds(call: Call, x: Any) -> tuple[Any, Any, Any, list[int]]:
    """Where a slice begins and ends and how it steps, and the axes that are an index."""
    count = rank(x)
    begins, ends, squeezed = (
        _mask(call, name, count) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    given = call.array("stride")
    steps = [1] * count if given is None else [int(step) for step in given]
    steps = [1 if gone else step for step, gone in zip(steps, squeezed, strict=True)]
    first = _bound(call, "begin", begins, [0 if step > 0 else END for step in steps], x)
    last = _bound(call, "end", ends, [END if step > 0 else -END for step in steps], x)
    if any(squeezed):
        # One entry, whatever the end says.
        if isinstance(first, list) and isinstance(last, list):
            last = [
                (at + 1 if at != -1 else END) if gone else end
                for at, end, gone in zip(first, last, squeezed, strict=True)
            ]
        else:
            start = ints(*first) if isinstance(first, list) else first
            after = values.add(start, ints(*[1] * count))
            after = values.where(
                raw.broadcasting_equal(after, ints(*[0] * count)), ints(*[END] * count), after
            )
            stop = ints(*last) if isinstance(last, list) else last
            last = values.where(values.const(np.array(squeezed)), after, stop)
    gone = [axis for axis, mark in enumerate(squeezed) if mark]
    start, stop = (ints(*b) if isinstance(b, list) else b for b in (first, last))
    return start, stop, ints(*steps), gone


def _bound(call: Call, name: str, mask: list[bool], free: list[int], x: Any) -> Any:
    """A list where the bound is known, else a vector."""
    if call.is_constant(name):
        known = [int(at) for at in np.atleast_1d(call.array(name))]
        return [f if m else at for at, m, f in zip(known, mask, free, strict=True)]
    given = call.value(name)
    return values.where(values.const(np.array(mask)), ints(*free), given) if any(mask) else given


@op("slice_by_index")
def slice_by_index(call: Call) -> Any:
    x = call.value("x")
    first, last, steps, gone = _bounds(call, x)
    cut = raw.slice_(x, first, last, steps)
    if not gone:
        return cut
    sizes = [1 if axis in gone else size for axis, size in enumerate(dims(cut))]
    if sizes.count(None) <= 1:
        cut = values.reshaped(cut, sizes)
    return raw.shrink_dims(cut, ints(*gone))


@op("slice_by_size")
def slice_by_size(call: Call) -> Any:
    x, first = call.value("x"), call.value("begin")
    if call.is_constant("size"):
        size = call.array("size")
        last = values.add(first, values.const(np.maximum(size, 0)))
        if (size < 0).any():
            free = values.const(np.full(len(size), END, np.int32))
            last = values.where(values.const(size < 0), free, last)
    else:
        size = call.value("size")
        none = ints(*[0] * rank(x))
        below = raw.broadcasting_greater(none, size)
        last = values.where(below, ints(*[END] * rank(x)), values.add(first, size))
    return raw.slice_(x, first, last, ints(*[1] * rank(x)))


@op("slice_update")
def slice_update(call: Call) -> Any:
    x, update = call.value("x"), call.value("update")
    first, last, steps, gone = _bounds(call, x)
    if gone:
        update = raw.expand_dims(update, ints(*gone))
    return raw.slice_update(x, first, last, steps, update)
