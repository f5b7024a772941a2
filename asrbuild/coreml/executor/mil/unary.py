"""Element-wise ops of one tensor: ``tensor<*, T> -> tensor<*, T>``.

Source: "elementwise_unary" in the MIL reference (iOS15, and ``epsilon`` and ``cast`` of iOS17).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.literals import NAMED_DTYPES
from asrbuild.coreml.executor.mil import error_function
from asrbuild.coreml.executor.registry import mil_op


def _register(name: str, function: Callable[[Array], Array], meaning: str) -> None:
    def run(x: Array) -> Array:
        return function(x)

    run.__name__ = name
    run.__doc__ = f"``{meaning}``: ``tensor<*, T> -> tensor<*, T>``."
    mil_op(name, arithmetic=True)(run)


for _name, _function, _meaning in (
    ("abs", np.abs, "|x|"),
    ("acos", np.arccos, "arc cosine"),
    ("asin", np.arcsin, "arc sine"),
    ("atan", np.arctan, "arc tangent"),
    ("atanh", np.arctanh, "inverse hyperbolic tangent"),
    ("ceil", np.ceil, "smallest integer not below x"),
    ("cos", np.cos, "cosine"),
    ("cosh", np.cosh, "hyperbolic cosine"),
    ("exp", np.exp, "e^x"),
    ("exp2", np.exp2, "2^x"),
    ("floor", np.floor, "largest integer not above x"),
    ("round", np.round, "nearest integer, halves to even"),
    ("sign", np.sign, "-1, 0 or 1"),
    ("sin", np.sin, "sine"),
    ("sinh", np.sinh, "hyperbolic sine"),
    ("sqrt", np.sqrt, "square root"),
    ("square", np.square, "x^2"),
    ("tan", np.tan, "tangent"),
    ("tanh", np.tanh, "hyperbolic tangent"),
):
    _register(_name, _function, _meaning)


@mil_op("erf", arithmetic=True)
def erf(x: Array) -> Array:
    """Gauss error function: ``tensor<*, T> -> tensor<*, T>``."""
    return error_function.erf(x)


@mil_op("clip", arithmetic=True)
def clip(x: Array, alpha: Array, beta: Array) -> Array:
    """Limits to ``[alpha, beta]``: ``tensor<*, T>, T, T -> tensor<*, T>``."""
    return np.minimum(np.maximum(x, alpha), beta)


@mil_op("inverse", arithmetic=True)
def inverse(x: Array, epsilon: float = 1e-4) -> Array:
    """``1 / (x + epsilon)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.reciprocal(x + epsilon)


@mil_op("log", arithmetic=True)
def log(x: Array, epsilon: float = 1e-45) -> Array:
    """``log(x + epsilon)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.log(x + epsilon)


@mil_op("rsqrt", arithmetic=True)
def rsqrt(x: Array, epsilon: float = 1e-12) -> Array:
    """``1 / sqrt(x + epsilon)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.float32(1.0) / np.sqrt(x + epsilon)


@mil_op("threshold", arithmetic=True)
def threshold(x: Array, alpha: Array) -> Array:
    """``max(x, alpha)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.maximum(x, alpha)


@mil_op("logical_not")
def logical_not(x: Array) -> Array:
    """``tensor<*, bool> -> tensor<*, bool>``."""
    return np.logical_not(x)


@mil_op("cast")
def cast(x: Array, dtype: str) -> Array:
    """To the type of that name: ``tensor<*, T>, str -> tensor<*, dtype>``.

    Floats become integers towards zero, anything but zero becomes ``True``.
    """
    return np.asarray(x).astype(NAMED_DTYPES[dtype])
