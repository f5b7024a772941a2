"""Lowers slices: ``slice_by_index``, ``slice_by_size``, ``slice_update``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import END, dims, ints, rank


def _mask(call: Call, name: str, count: int) -> list[bool]:
    mask = call.array(name)
    return [False] * count if mask is None else [bool(one) for one in np.atleast_1d(mask)]


@dataclass(frozen=True)
class _Slice:
    """The bounds and strides of a slice, with its squeezed and its reversed axes."""

    first: Any
    last: Any
    steps: Any
    gone: list[int]
    turned: list[int]


def _slice(call: Call, x: Any) -> _Slice:
    count = rank(x)
    begins, ends, squeezed = (
        _mask(call, name, count) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    given = call.array("stride")
    strides = [1] * count if given is None else [int(step) for step in given]
    strides = [1 if gone else step for step, gone in zip(strides, squeezed, strict=True)]
    gone = [axis for axis, mark in enumerate(squeezed) if mark]
    turned = [axis for axis, step in enumerate(strides) if step < 0]
    steps = ints(*map(abs, strides))
    if call.is_constant("begin") and call.is_constant("end"):
        bounds = (np.atleast_1d(call.array(name)) for name in ("begin", "end"))
        pairs = [
            _known(call, dims(x)[axis], begin, end, strides[axis], squeezed[axis])
            for axis, begin, end in zip(
                range(count),
                *(
                    [None if mark else int(at) for at, mark in zip(bound, mask, strict=True)]
                    for bound, mask in zip(bounds, (begins, ends), strict=True)
                ),
                strict=True,
            )
        ]
        first, last = (ints(*bound) for bound in zip(*pairs, strict=True))
        return _Slice(first, last, steps, gone, turned)
    if turned:
        raise call.refused("a stride below zero and computed bounds")
    first = _bound(call, "begin", begins, 0, count)
    last = _bound(call, "end", ends, END, count)
    if gone:
        # One entry, whatever the end is; the end after the last entry must not be 0.
        after = values.add(first, ints(*[1] * count))
        wrapped = raw.broadcasting_equal(after, ints(*[0] * count))
        after = values.where(wrapped, ints(*[END] * count), after)
        last = values.where(values.const(np.array(squeezed)), after, last)
    return _Slice(first, last, steps, gone, turned)


def _known(
    call: Call,
    size: int | None,
    begin: int | None,
    end: int | None,
    step: int,
    one: bool,
) -> tuple[int, int]:
    """The bounds of one axis; for a negative stride, counted from its other end."""
    if one:
        begin = begin or 0
        return begin, END if begin == -1 else begin + 1
    if size is not None:
        first, last, _ = slice(begin, end, step).indices(size)
        first, last = (first, last) if step > 0 else (size - 1 - first, size - 1 - last)
        return first, max(first, last)
    if step > 0:
        return begin or 0, END if end is None else end
    if begin is not None or end is not None:
        raise call.refused("a stride below zero on an axis of unknown size")
    return 0, END


def _bound(call: Call, name: str, mask: list[bool], free: int, count: int) -> Any:
    """A vector of bounds; those in the mask are open."""
    given = call.value(name)
    if not any(mask):
        return given
    return values.where(values.const(np.array(mask)), ints(*[free] * count), given)


@op("slice_by_index")
def slice_by_index(call: Call) -> Any:
    x = call.value("x")
    wanted = _slice(call, x)
    if wanted.turned:
        x = raw.reverse(x, ints(*wanted.turned))
    cut = raw.slice_(x, wanted.first, wanted.last, wanted.steps)
    if not wanted.gone:
        return cut
    sizes = [1 if axis in wanted.gone else size for axis, size in enumerate(dims(cut))]
    if sizes.count(None) <= 1:
        cut = values.reshaped(cut, sizes)
    return raw.shrink_dims(cut, ints(*wanted.gone))


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
    wanted = _slice(call, x)
    if wanted.gone:
        update = raw.expand_dims(update, ints(*wanted.gone))
    if wanted.turned:
        axes = ints(*wanted.turned)
        turned = raw.reverse(x, axes)
        made = raw.slice_update(turned, wanted.first, wanted.last, wanted.steps, update)
        return raw.reverse(made, axes)
    return raw.slice_update(x, wanted.first, wanted.last, wanted.steps, update)
