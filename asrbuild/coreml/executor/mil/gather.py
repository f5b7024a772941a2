"""Reading by index: ``gather``, ``gather_nd``, ``gather_along_axis``.

Source: "scatter_gather" in the MIL reference (iOS15, iOS16, iOS17), and ``tf.gather`` which it
names. A negative index counts from the end, as in iOS15; iOS17 leaves it undefined. An index out of
range is an error here, whatever ``validate_indices`` is.
"""

from __future__ import annotations

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.registry import mil_op


@mil_op("gather")
def gather(
    x: Array,
    indices: Array,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Array:
    """``tensor<D, T>, tensor<N, i32> -> tensor<D[:axis] + N[batch_dims:] + D[axis+1:], T>``."""
    axis, batch_dims = int(axis) % x.ndim, int(batch_dims)
    if batch_dims == 0:
        return np.take(x, indices, axis)
    batch = x.shape[:batch_dims]
    rows = x.reshape(-1, *x.shape[batch_dims:])
    wanted = indices.reshape(-1, *indices.shape[batch_dims:])
    taken = [np.take(r, i, axis - batch_dims) for r, i in zip(rows, wanted, strict=True)]
    return np.stack(taken).reshape(*batch, *taken[0].shape)


@mil_op("gather_along_axis")
def gather_along_axis(
    x: Array, indices: Array, axis: int = 0, validate_indices: bool = False
) -> Array:
    """``tensor<D, T>, tensor<K, i32> -> tensor<K, T>``; ranks agree, sizes but for ``axis``."""
    return np.take_along_axis(x, indices.astype(np.int64), int(axis))


@mil_op("gather_nd")
def gather_nd(
    x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    """``tensor<D, T>, tensor<K, i32> -> tensor<K[:-1] + D[batch_dims + K[-1]:], T>``."""
    batch_dims = int(batch_dims)
    if batch_dims == 0:
        return x[tuple(np.moveaxis(indices, -1, 0))]
    batch = x.shape[:batch_dims]
    rows = x.reshape(-1, *x.shape[batch_dims:])
    wanted = indices.reshape(-1, *indices.shape[batch_dims:])
    taken = [r[tuple(np.moveaxis(i, -1, 0))] for r, i in zip(rows, wanted, strict=True)]
    return np.stack(taken).reshape(*batch, *taken[0].shape)
