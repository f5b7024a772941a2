"""Ops that move values without changing them: shapes, order, joining and splitting.

Source: "tensor_transformation" and "tensor_operation" in the MIL reference (iOS15, iOS16, iOS17).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op


def as_list(values: Any) -> list[Any]:
    """The values of an input that takes one or several, as a list."""
    return values if isinstance(values, list) else [values]


@mil_op("expand_dims")
def expand_dims(x: Array, axes: Array) -> Array:
    """Inserts axes of size 1 at their places in the result: ``tensor<*, T> -> tensor<*, T>``."""
    places = np.ravel(axes).tolist()
    if len(places) == 1:  # a tenth of the time of np.expand_dims
        at = places[0] % (x.ndim + 1)
        return x.reshape(*x.shape[:at], 1, *x.shape[at:])
    return np.expand_dims(x, tuple(places))


@mil_op("squeeze")
def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Removes axes of size 1; those of another size stay: ``tensor<*, T> -> tensor<*, T>``."""
    if axes is None:
        return np.squeeze(x)
    positive = {int(axis) % x.ndim for axis in np.atleast_1d(axes)}
    return np.squeeze(x, tuple(axis for axis in positive if x.shape[axis] == 1))


@mil_op("transpose")
def transpose(x: Array, perm: Array) -> Array:
    """Permutes axes: ``tensor<*, T>, <[rank], i32> -> tensor<*, T>``."""
    return x.transpose(np.asarray(perm).tolist())


@mil_op("reshape")
def reshape(x: Array, shape: Array) -> Array:
    """``-1`` is what remains; ``0`` is the size of the same axis of ``x``, counted from the right
    (so when ranks agree, of that axis), or 1 where ``x`` has none: ``tensor<*, T> -> ...``."""
    x = np.asarray(x)
    sizes = [int(size) for size in shape]
    offset = x.ndim - len(sizes)
    for axis, size in enumerate(sizes):
        if size == 0:
            source = axis + offset
            sizes[axis] = x.shape[source] if source >= 0 else 1
    return x.reshape(sizes)


@mil_op("reshape_like")
def reshape_like(x: Array, ref_tensors: Any, begins: Any, ends: Any, end_masks: Any) -> Array:
    """Takes its shape from ranges of the reference tensors' shapes, joined."""
    shape: list[int] = []
    for reference, begin, end, to_the_end in zip(
        as_list(ref_tensors), as_list(begins), as_list(ends), as_list(end_masks), strict=True
    ):
        shape += reference.shape[int(begin) : None if to_the_end else int(end)]
    return x.reshape(shape)


@mil_op("flatten2d")
def flatten2d(x: Array, axis: int = 1) -> Array:
    """``tensor<[*d], T> -> tensor<[product before axis, product from axis], T>``."""
    axis = int(axis)
    before = x.shape[: axis if axis >= 0 else x.ndim + axis]
    return x.reshape(int(np.prod(before)), -1)


@mil_op("concat")
def concat(values: Any, axis: int, interleave: bool = False) -> Array:
    """Joins along an axis; ``interleave`` takes one slice of each in turn."""
    arrays = [np.atleast_1d(value) for value in as_list(values)]
    axis = int(axis)
    if not interleave:
        return np.concatenate(arrays, axis)
    stacked = np.stack(arrays, axis=axis % arrays[0].ndim + 1)
    shape = list(arrays[0].shape)
    shape[axis] *= len(arrays)
    return stacked.reshape(shape)


@mil_op("stack")
def stack(values: Any, axis: int) -> Array:
    """Joins along a new axis: ``N x tensor<*, T> -> tensor<*, T>`` of one rank more."""
    return np.stack(as_list(values), int(axis))


@mil_op("split")
def split(
    x: Array,
    num_splits: int | None = None,
    split_sizes: Array | None = None,
    axis: int = 0,
) -> list[Array]:
    """Cuts along an axis, into equal parts or parts of these sizes: ``tensor<*, T> -> N x ...``."""
    if split_sizes is None:
        assert num_splits is not None
        sized.check_parts(int(num_splits))
        return np.split(x, int(num_splits), int(axis))
    return np.split(x, np.cumsum(split_sizes)[:-1], int(axis))


@mil_op("tile")
def tile(x: Array, reps: Array) -> Array:
    """Repeats along each axis: ``tensor<*, T>, <[rank], i32> -> tensor<*, T>``."""
    return sized.tile(x, reps)


@mil_op("reverse")
def reverse(x: Array, axes: Array | None = None) -> Array:
    """Flips axes, all by default: ``tensor<*, T> -> tensor<*, T>``."""
    return np.flip(x, None if axes is None else tuple(int(axis) for axis in axes))


@mil_op("reverse_sequence")
def reverse_sequence(x: Array, lengths: Array, seq_axis: int = 0, batch_axis: int = 0) -> Array:
    """Flips the first ``lengths[b]`` entries of every batch entry along ``seq_axis``."""
    result = x.copy()
    seq_axis, batch_axis = int(seq_axis) % x.ndim, int(batch_axis) % x.ndim
    for batch, length in enumerate(lengths):
        place: list[Any] = [slice(None)] * x.ndim
        place[batch_axis] = batch
        place[seq_axis] = slice(0, int(length))
        axis = seq_axis - (batch_axis < seq_axis)
        result[tuple(place)] = np.flip(x[tuple(place)], axis)
    return result


@mil_op("pad")
def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0) -> Array:
    """Pads the last N axes by (before, after) pairs: ``tensor<*, T>, <[2 * N], i32>``."""
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2)
    pairs += [(int(before), int(after)) for before, after in np.asarray(pad).reshape(-1, 2)]
    if mode == "constant":
        return sized.pad(x, pairs, constant_values=np.asarray(constant_val).astype(x.dtype))
    return sized.pad(x, pairs, {"replicate": "edge", "reflect": "reflect"}[mode])


@mil_op("sliding_windows")
def sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Array:
    """All windows of ``size`` along ``axis``, as a new axis after it."""
    axis, size, stride = int(axis) % x.ndim, int(size), int(stride)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    windows = np.moveaxis(windows, -1, axis + 1)
    keep: list[Any] = [slice(None)] * windows.ndim
    keep[axis] = slice(None, None, stride)
    return windows[tuple(keep)]
