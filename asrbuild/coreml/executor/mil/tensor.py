"""Ops that make tensors, read their shapes, sort or count them.

Source: "tensor_operation" in the MIL reference (iOS15, iOS16), "quantization_ops" (iOS17).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op

_ZERO = np.float32(0.0)


@mil_op("shape")
def shape(x: Array, output_dtype: str = "int32") -> Array:
    """``tensor<*, T> -> tensor<[rank], i32>``."""
    return np.array(x.shape, output_dtype)


@mil_op("fill")
def fill(shape: Array, value: Any = _ZERO) -> Array:
    """``tensor<[K], i32>, T -> tensor<shape, T>``."""
    value = np.asarray(value)
    return sized.full(shape, value, value.dtype)


@mil_op("fill_like")
def fill_like(ref_tensor: Array, value: Any = _ZERO) -> Array:
    """``tensor<*, T>, U -> tensor<same shape, U>``."""
    value = np.asarray(value)
    return np.full(ref_tensor.shape, value, value.dtype)


@mil_op("range_1d")
def range_1d(end: Array, start: Array, step: Array) -> Array:
    """From ``start`` by ``step`` up to ``end``, exclusive: ``T, T, T -> tensor<[n], T>``."""
    first, last, stride = (np.asarray(v).reshape(()) for v in (start, end, step))
    return sized.arange(first, last, stride, first.dtype)


@mil_op("one_hot")
def one_hot(
    indices: Array,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Any = 1,
    off_value: Any = 0,
) -> Array:
    """``tensor<D, i32> -> tensor<D with a new axis, T>``; an index out of range sets nothing."""
    (*_, size) = sized.sized([*np.shape(indices), one_hot_vector_size])
    hits = np.asarray(indices)[..., None] == np.arange(size)
    on = np.asarray(on_value)
    on = on.astype(np.int32) if on.dtype == np.int64 else on
    result = np.where(hits, on, np.asarray(off_value).astype(on.dtype))
    return np.moveaxis(result, -1, int(axis))


@mil_op("non_zero")
def non_zero(x: Array) -> Array:
    """Indices of what is not zero, in row-major order: ``tensor<*, T> -> tensor<[n, rank], i32>``."""  # noqa: E501
    return np.argwhere(x).astype(np.int32)


@mil_op("cumsum", arithmetic=True)
def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    """Running sum; ``exclusive`` leaves out the entry itself: ``tensor<*, T> -> tensor<*, T>``."""
    axis = int(axis)
    data = np.flip(x, axis) if reverse else x
    total = np.cumsum(data, axis, dtype=x.dtype)
    if exclusive:
        total = total - data
    return np.flip(total, axis) if reverse else total


@mil_op("band_part")
def band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    """Zeros outside of a band around the diagonal of the last two axes; -1 keeps a whole side."""
    row, column = np.indices(x.shape[-2:], sparse=True)
    inside = np.ones(x.shape[-2:], bool)
    if lower >= 0:
        inside &= row - column <= lower
    if upper >= 0:
        inside &= column - row <= upper
    return np.where(inside, x, x.dtype.type(0))


@mil_op("argsort")
def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Array:
    """Order of values along an axis, descending by default: ``tensor<*, T> -> tensor<*, i32>``."""
    return _order(x, int(axis), bool(ascending)).astype(np.int32)


@mil_op("topk")
def topk(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Any:
    """The ``k`` largest (or smallest) along an axis, in order, and their indices."""
    axis = int(axis)
    indices = np.take(_order(x, axis, bool(ascending)), np.arange(int(k)), axis)
    values = np.take_along_axis(x, indices, axis)
    return [values, indices.astype(output_indices_dtype)] if return_indices else values


@mil_op("quantize")
def quantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
    output_dtype: str = "int8",
) -> Array:
    """``clip(round(input / scale) + zero_point)``: ``tensor<*, T> -> tensor<*, int8 | uint8>``."""
    scale, offset = _along(scale, zero_point, axis, input.ndim)
    limits = np.iinfo(output_dtype)
    levels = np.round(input.astype(np.float32) / scale) + offset
    return np.clip(levels, limits.min, limits.max).astype(output_dtype)


@mil_op("dequantize", arithmetic=True)
def dequantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    """``(input - zero_point) * scale``: ``tensor<*, int8 | uint8> -> tensor<*, T>``."""
    scale, offset = _along(scale, zero_point, axis, input.ndim)
    return (input.astype(np.float32) - offset) * scale


def _order(x: Array, axis: int, ascending: bool) -> Array:
    """The stable order of values along an axis: equal values keep their order."""
    if ascending:
        return np.argsort(x, axis, kind="stable")
    reversed_order = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - reversed_order


def _along(
    scale: Array, zero_point: Array | None, axis: int | None, rank: int
) -> tuple[Array, Array]:
    """Scale and zero point in float32, reshaped for broadcasting along ``axis``."""
    values = [np.asarray(scale, np.float32)]
    values.append(np.asarray(0 if zero_point is None else zero_point, np.float32))
    if axis is not None:
        shape = [1] * rank
        shape[int(axis)] = -1
        values = [value.reshape(shape) if value.ndim else value for value in values]
    return values[0], values[1]
