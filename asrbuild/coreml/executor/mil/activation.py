"""Activations: ``tensor<*, T> -> tensor<*, T>``.

Source: "activation" in the MIL reference.
"""

from __future__ import annotations

import math

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil import error_function
from asrbuild.coreml.executor.registry import mil_op

_ONE = np.float32(1.0)


@mil_op("relu", arithmetic=True)
def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return np.maximum(x, x.dtype.type(0))


@mil_op("relu6", arithmetic=True)
def relu6(x: Array) -> Array:
    """``min(max(x, 0), 6)``."""
    return np.minimum(np.maximum(x, x.dtype.type(0)), x.dtype.type(6))


@mil_op("clamped_relu", arithmetic=True)
def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    """``min(beta, x)`` where ``x >= 0``, else ``min(beta, alpha * x)``."""
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


@mil_op("leaky_relu", arithmetic=True)
def leaky_relu(x: Array, alpha: Array) -> Array:
    """``x`` where ``x >= 0``, else ``alpha * x``."""
    return np.where(x >= 0, x, alpha * x)


@mil_op("thresholded_relu", arithmetic=True)
def thresholded_relu(x: Array, alpha: Array) -> Array:
    """``x`` where ``x >= alpha``, else 0."""
    return np.where(x >= alpha, x, x.dtype.type(0))


@mil_op("elu", arithmetic=True)
def elu(x: Array, alpha: Array) -> Array:
    """``x`` where ``x > 0``, else ``alpha * (e^x - 1)``."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, x.dtype.type(0))))


@mil_op("prelu", arithmetic=True)
def prelu(x: Array, alpha: Array) -> Array:
    """``x`` where ``x > 0``, else ``alpha[c] * x``: ``tensor<[B, C, 1..3], T>, tensor<[C], T>``."""
    return np.where(x > 0, x, _by_channel(alpha, x.ndim) * x)


@mil_op("linear_activation", arithmetic=True)
def linear_activation(x: Array, alpha: Array, beta: Array) -> Array:
    """``alpha * x + beta``."""
    return alpha * x + beta


@mil_op("scaled_tanh", arithmetic=True)
def scaled_tanh(x: Array, alpha: Array, beta: Array) -> Array:
    """``alpha * tanh(beta * x)``."""
    return alpha * np.tanh(beta * x)


@mil_op("sigmoid", arithmetic=True)
def sigmoid(x: Array) -> Array:
    """``1 / (1 + e^-x)``."""
    made: Array = np.negative(x, np.empty_like(x))
    np.exp(made, made)
    made += _ONE
    return np.divide(_ONE, made, made)


@mil_op("sigmoid_hard", arithmetic=True)
def sigmoid_hard(x: Array, alpha: Array, beta: Array) -> Array:
    """``min(max(alpha * x + beta, 0), 1)``."""
    return np.clip(alpha * x + beta, np.float32(0.0), _ONE)


@mil_op("silu", arithmetic=True)
def silu(x: Array) -> Array:
    """``x * sigmoid(x)``."""
    made = sigmoid(x)
    made *= x
    return made


@mil_op("softplus", arithmetic=True)
def softplus(x: Array) -> Array:
    """``log(1 + e^x)``."""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, x.dtype.type(0))


@mil_op("softplus_parametric", arithmetic=True)
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """``alpha[c] * log(1 + e^(beta[c] * x))``: ``tensor<[B, C, n, m], T>, tensor<[C], T> x 2``."""
    return _by_channel(alpha, x.ndim) * softplus(_by_channel(beta, x.ndim) * x)


@mil_op("softsign", arithmetic=True)
def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``."""
    return x / (_ONE + np.abs(x))


@mil_op("softmax", arithmetic=True)
def softmax(x: Array, axis: int = -1) -> Array:
    """``e^x / sum(e^x)`` along ``axis``."""
    powers: Array = x - np.maximum.reduce(x, int(axis), keepdims=True)
    np.exp(powers, powers)
    powers /= np.add.reduce(powers, int(axis), keepdims=True)
    return powers


@mil_op("gelu", arithmetic=True)
def gelu(x: Array, mode: str = "EXACT") -> Array:
    """``x`` times the normal distribution function of ``x``, or one of its two approximations."""
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.float32(0.5) * x * (_ONE + np.tanh(inner))
    if mode == "SIGMOID_APPROXIMATION":
        return x * sigmoid(np.float32(1.702) * x)
    below = error_function.erf(x * np.float32(math.sqrt(0.5)))
    below += _ONE
    below *= x
    below *= np.float32(0.5)
    return below


def _by_channel(values: Array, rank: int) -> Array:
    return values.reshape(1, -1, *[1] * (rank - 2))
