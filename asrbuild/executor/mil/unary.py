"""Element-wise ops of one tensor: ``tensor<*, T> -> tensor<*, T>``.

Source: "elementwise_unary" in the MIL reference (iOS15, and ``epsilon`` and ``cast`` of iOS17).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from asrbuild.executor.literals import NAMED_DTYPES
from asrbuild.executor.registry import mil_op

_erf = np.frompyfunc(math.erf, 1, 1)


def _register(name: str, function: Callable[[np.ndarray], np.ndarray], meaning: str) -> None:
    def run(x: np.ndarray) -> np.ndarray:
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
def erf(x: np.ndarray) -> np.ndarray:
    """Gauss error function: ``tensor<*, T> -> tensor<*, T>``."""
    return np.asarray(_erf(np.asarray(x, np.float64)), np.float64).astype(x.dtype)


@mil_op("clip", arithmetic=True)
def clip(x: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Limits to ``[alpha, beta]``: ``tensor<*, T>, T, T -> tensor<*, T>``."""
    return np.minimum(np.maximum(x, alpha), beta)


@mil_op("inverse", arithmetic=True)
def inverse(x: np.ndarray, epsilon: float = 1e-4) -> np.ndarray:
    """``1 / (x + epsilon)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.reciprocal(x + epsilon)


@mil_op("log", arithmetic=True)
def log(x: np.ndarray, epsilon: float = 1e-45) -> np.ndarray:
    """``log(x + epsilon)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.log(x + epsilon)


@mil_op("rsqrt", arithmetic=True)
def rsqrt(x: np.ndarray, epsilon: float = 1e-12) -> np.ndarray:
    """``1 / sqrt(x + epsilon)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.float32(1.0) / np.sqrt(x + epsilon)


@mil_op("threshold", arithmetic=True)
def threshold(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """``max(x, alpha)``: ``tensor<*, T>, T -> tensor<*, T>``."""
    return np.maximum(x, alpha)


@mil_op("logical_not")
def logical_not(x: np.ndarray) -> np.ndarray:
    """``tensor<*, bool> -> tensor<*, bool>``."""
    return np.logical_not(x)


@mil_op("cast")
def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """To the type of that name: ``tensor<*, T>, str -> tensor<*, dtype>``.

    Floats become integers towards zero, anything but zero becomes ``True``.
    """
    return np.asarray(x).astype(NAMED_DTYPES[dtype])
