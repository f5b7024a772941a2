"""Writing by index: ``scatter``, ``scatter_nd``, ``scatter_along_axis``.

Source: "scatter_gather" in the MIL reference (iOS15, iOS17). ``data`` is a private copy here, so
these ops write into it. Repeated indices accumulate in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.registry import mil_op


def _divide(data: Array, updates: Array) -> Array:
    quotient = np.divide(data, updates)
    return np.trunc(quotient) if np.issubdtype(data.dtype, np.integer) else quotient


_COMBINE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "max": np.maximum,
    "min": np.minimum,
}


def write(data: Array, place: Any, updates: Array, mode: str) -> Array:
    """Combines ``updates`` into ``data[place]``; repeated places combine one after another."""
    if mode == "update":
        data[place] = updates
        return data
    combine = _COMBINE[mode]
    if isinstance(combine, np.ufunc):
        combine.at(data, place, updates)
        return data
    flat = np.arange(data.size).reshape(data.shape)[place].reshape(-1)
    values = np.broadcast_to(updates, data[place].shape).reshape(-1)
    for position, value in zip(flat, values, strict=True):
        data.flat[position] = combine(data.flat[position], value).astype(data.dtype)
    return data


@mil_op("scatter", owns="data")
def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    """``tensor<D, T>, tensor<N, i32>, tensor<D with N at axis, T> -> tensor<D, T>``."""
    axis = int(axis) % data.ndim
    if indices.size == 1 and mode in _COMBINE and mode != "div":
        # One row, as in a step of a recurrent loop; ufunc.at is thirty times slower.
        row = (slice(None),) * axis + (int(indices.reshape(())),)
        view = data[row]
        source = updates.reshape(view.shape)
        if view.ndim:
            _COMBINE[mode](view, source, out=view)
        else:
            data[row] = _COMBINE[mode](view, source)
        return data
    if indices.ndim > 1:
        updates = updates.reshape(*updates.shape[:axis], -1, *updates.shape[axis + indices.ndim :])
    return write(data, (slice(None),) * axis + (indices.reshape(-1),), updates, mode)


@mil_op("scatter_along_axis", owns="data")
def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    """``tensor<D, T>, tensor<K, i32>, tensor<K, T> -> tensor<D, T>``; ranks agree."""
    place = list(np.indices(indices.shape, sparse=True))
    place[int(axis)] = indices.astype(np.int64)
    return write(data, tuple(place), updates, mode)


@mil_op("scatter_nd", owns="data")
def scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    mode: str = "add",
    validate_indices: bool = False,
) -> Array:
    """``tensor<D, T>, tensor<K, i32>, tensor<K[:-1] + D[K[-1]:], T> -> tensor<D, T>``."""
    return write(data, tuple(np.moveaxis(indices, -1, 0)), updates, mode)
