"""Lowers slices with starts and ends that are known, sizes, or computed from data."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.arithmetic import as_integers
from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of, shape_of
from asrbuild.architectures.onnx.lowering.values import (
    ENDLESS,
    Value,
    as_sizes,
    is_boolean,
    is_open,
    same_size,
)


@lowers("Slice")
def slice_(
    call: NodeCall,
    x: Value,
    starts: Value = None,
    ends: Value = None,
    axes: Value = None,
    steps: Value = None,
) -> Var:
    """Slices from starts to ends; before op set 10 both are attributes."""
    if starts is None:
        starts, ends = (np.array(call.attribute(name)) for name in ("starts", "ends"))
    x, rank = call.var(x), rank_of(x)
    if is_boolean(x):
        return mb.cast(x=slice_(call, as_integers(x), starts, ends, axes, steps), dtype="bool")
    first, last = call.numbers_or_none(starts), call.numbers_or_none(ends)
    count = len(first) if first is not None else int(starts.shape[0])
    found = call.axes(axes)
    along = [axis % rank for axis in found] if found is not None else list(range(count))
    step = [1] * count if steps is None else call.numbers(steps, "steps")
    for at, axis in enumerate(along):
        if step[at] > 0:
            continue
        if first is None or last is None:
            raise call.no_form("a negative step and ends that are computed from data")
        x = _backwards(call, x, axis, first[at], last[at], step[at])
    forward = [at for at in range(count) if step[at] > 0]
    begin = _Bounds(call, starts, first, x, along)
    end = _Bounds(call, ends, last, x, along)
    begins, ends_, strides = [0] * rank, [0] * rank, [1] * rank
    open_begin, open_end = [True] * rank, [True] * rank
    for at in forward:
        axis = along[at]
        strides[axis] = step[at]
        if not begin.is_first(at):
            open_begin[axis], begins[axis] = False, begin.at(at)
        if not end.is_last(at):
            open_end[axis], ends_[axis] = False, end.at(at)
    if all(open_begin) and all(open_end) and set(strides) == {1}:
        return x
    return mb.slice_by_index(
        x=x,
        begin=_vector(call, begins),
        end=_vector(call, ends_),
        stride=strides,
        begin_mask=open_begin,
        end_mask=open_end,
    )


class _Bounds:
    """The starts or the ends of a slice."""

    def __init__(
        self, call: NodeCall, value: Value, numbers: list[Any] | None, x: Var, along: list[int]
    ) -> None:
        self.call, self.value, self.numbers = call, value, numbers
        self.sizes = [shape_of(x)[axis] for axis in along]

    def is_first(self, at: int) -> bool:
        """Whether a start is the first element of the axis."""
        if self.numbers is None or is_open(self.numbers[at]):
            return False
        number, size = self.numbers[at], self.sizes[at]
        return number == 0 or (not is_open(size) and number <= -size)

    def is_last(self, at: int) -> bool:
        """Whether an end is the end of the axis."""
        if self.numbers is None:
            return False
        number, size = self.numbers[at], self.sizes[at]
        if is_open(number):
            return is_open(size) and same_size(number, size)
        return bool(number >= ENDLESS or (not is_open(size) and number >= size))

    def at(self, at: int) -> Any:
        """A bound: a number, a size, or a ``Var`` limited to the axis."""
        if self.numbers is not None:
            return self.numbers[at]
        one = mb.gather(x=self.value, indices=np.int32(at), axis=0)
        size = self.call.size_ops.number(self.sizes[at])
        return mb.minimum(x=one, y=size)


def _vector(call: NodeCall, numbers: list[Any]) -> Any:
    """A vector of numbers, sizes and scalars of the graph."""
    if not any(hasattr(number, "op") for number in numbers):
        return call.var(as_sizes(numbers))
    return mb.concat(
        values=[
            mb.expand_dims(x=one, axes=[0]) if hasattr(one, "op") else np.array([one], np.int32)
            for one in (n if hasattr(n, "op") else call.size_ops.number(n) for n in numbers)
        ],
        axis=0,
    )


def _backwards(call: NodeCall, x: Var, axis: int, first: Any, last: Any, step: int) -> Var:
    """Slices one axis from its end: reverses it as a whole, or gathers the elements."""
    size = shape_of(x)[axis]
    whole = first in (-1, ENDLESS) or (not is_open(first) and first >= ENDLESS)
    if whole and not is_open(last) and last <= -ENDLESS and step == -1:
        return mb.reverse(x=x, axes=[axis])
    if any(map(is_open, (size, first, last))):
        raise call.no_form("a negative step along an open axis")
    kept = np.arange(size)[slice(first, None if last < -size else last, step)]
    return mb.gather(x=x, indices=kept.astype(np.int32), axis=axis)
