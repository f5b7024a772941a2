"""Slices: ``slice_by_index``, ``slice_by_size``, ``slice_update``.

Source: "tensor_transformation" in the MIL reference (iOS15, iOS17, iOS18).
"""

from __future__ import annotations

from asrbuild.base.array import Array
from asrbuild.coreml.executor.registry import mil_op

Mask = Array | None


def index_slices(
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Mask = None,
    end_mask: Mask = None,
    squeeze_mask: Mask = None,
) -> tuple[slice | int, ...]:
    """The numpy index of a MIL slice: masked ends are open, squeezed axes are indexed."""
    rank = len(begin)
    index: list[slice | int] = []
    for axis in range(rank):
        if squeeze_mask is not None and squeeze_mask[axis]:
            open_begin = begin_mask is not None and begin_mask[axis]
            index.append(0 if open_begin else int(begin[axis]))
            continue
        index.append(
            slice(
                None if begin_mask is not None and begin_mask[axis] else int(begin[axis]),
                None if end_mask is not None and end_mask[axis] else int(end[axis]),
                1 if stride is None else int(stride[axis]),
            )
        )
    return tuple(index)


@mil_op("slice_by_index")
def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Mask = None,
    end_mask: Mask = None,
    squeeze_mask: Mask = None,
) -> Array:
    """``x[begin:end:stride, ...]``: ``tensor<*, T>, <[rank], i32> x 3 -> tensor<*, T>``."""
    return x[index_slices(begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@mil_op("slice_by_size")
def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """``size`` entries from ``begin``, ``-1`` to the end: ``tensor<*, T>, <[rank], i32> x 2``."""
    index = []
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        first = int(first) + (x.shape[axis] if first < 0 else 0)
        last = x.shape[axis] if count == -1 else first + int(count)
        if not 0 <= first <= last <= x.shape[axis]:
            raise IndexError(f"slice {first}:{last} of axis {axis} of size {x.shape[axis]}")
        index.append(slice(first, last))
    return x[tuple(index)]


@mil_op("slice_update", owns="x")
def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Mask = None,
    end_mask: Mask = None,
    squeeze_mask: Mask = None,
) -> Array:
    """``x`` with ``x[begin:end:stride, ...] = update``: ``tensor<*, T>, tensor<*, T>, ...``."""
    x[index_slices(begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return x
