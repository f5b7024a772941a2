"""Reductions over axes: ``tensor<*, T> -> tensor<*, T>`` with those axes removed, or of size 1.

Source: "reduction" in the MIL reference. ``axes`` absent means all; sums accumulate in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.registry import mil_op


def _log_sum_exp(x: Array, axis: Any, keepdims: bool) -> Array:
    largest = np.max(x, axis=axis, keepdims=True)
    # A slice of -inf has no finite maximum to subtract, and inf - inf is NaN.
    shift = np.where(np.isfinite(largest), largest, np.zeros_like(largest))
    total = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return total if keepdims else np.squeeze(total, axis=axis)


_REDUCTIONS: tuple[tuple[str, Callable[..., Array], str], ...] = (
    ("reduce_sum", lambda x, **k: np.add.reduce(x, dtype=x.dtype, **k), "sum"),
    ("reduce_prod", lambda x, **k: np.prod(x, dtype=x.dtype, **k), "product"),
    ("reduce_mean", np.mean, "mean"),
    ("reduce_max", np.maximum.reduce, "largest"),
    ("reduce_min", np.minimum.reduce, "smallest"),
    ("reduce_l1_norm", lambda x, **k: np.sum(np.abs(x), dtype=x.dtype, **k), "sum of |x|"),
    (
        "reduce_l2_norm",
        lambda x, **k: np.sqrt(np.sum(np.square(x), dtype=x.dtype, **k)),
        "square root of the sum of x^2",
    ),
    ("reduce_log_sum", lambda x, **k: np.log(np.sum(x, dtype=x.dtype, **k)), "log of the sum"),
    ("reduce_log_sum_exp", _log_sum_exp, "log of the sum of e^x"),
    (
        "reduce_sum_square",
        lambda x, **k: np.sum(np.square(x), dtype=x.dtype, **k),
        "sum of x^2",
    ),
)


def _register(name: str, function: Callable[..., Array], meaning: str) -> None:
    def run(x: Array, axes: Array | None = None, keep_dims: bool = False) -> Array:
        axis = tuple(range(x.ndim)) if axes is None else tuple(np.ravel(axes).tolist())
        return np.asarray(function(x, axis=axis, keepdims=bool(keep_dims)))

    run.__name__ = name
    run.__doc__ = f"{meaning.capitalize()} over axes: ``tensor<*, T> -> tensor<*, T>``."
    mil_op(name, arithmetic=True)(run)


for _name, _function, _meaning in _REDUCTIONS:
    _register(_name, _function, _meaning)


@mil_op("reduce_argmax")
def reduce_argmax(
    x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    """Index of the first largest value: ``tensor<*, T> -> tensor<*, int32>``."""
    found = np.argmax(x, axis=int(axis), keepdims=bool(keep_dims))
    return np.asarray(found).astype(output_dtype)


@mil_op("reduce_argmin")
def reduce_argmin(
    x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    """Index of the first smallest value: ``tensor<*, T> -> tensor<*, int32>``."""
    found = np.argmin(x, axis=int(axis), keepdims=bool(keep_dims))
    return np.asarray(found).astype(output_dtype)
