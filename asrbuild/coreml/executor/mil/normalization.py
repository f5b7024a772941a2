"""Normalizations; statistics are computed in float32.

Source: "normalization" in the MIL reference.
"""

from __future__ import annotations

import math

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op

_EPSILON = 1e-5


def _by_channel(values: Array | None, rank: int, otherwise: float) -> Array:
    if values is None:
        return np.full((), otherwise, np.float32)
    return values.reshape(1, -1, *[1] * (rank - 2))


def _centred(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array]:
    """``x`` minus its mean over ``axes``, and its deviation, ``sqrt(variance + epsilon)``."""
    count = np.float32(math.prod(x.shape[axis] for axis in axes))
    centred = x - np.add.reduce(x, axes, keepdims=True) / count
    variance = np.add.reduce(np.square(centred), axes, keepdims=True) / count
    return centred, np.sqrt(variance + epsilon)


@mil_op("batch_norm", arithmetic=True)
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = _EPSILON,
) -> Array:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` by channel:
    ``tensor<[n, C, *D], T>, tensor<[C], T> x 4``."""
    mean, variance = (_by_channel(v, x.ndim, 0.0) for v in (mean, variance))
    scale = _by_channel(gamma, x.ndim, 1.0) / np.sqrt(variance + epsilon)
    result: Array = x - mean
    result *= scale
    result += _by_channel(beta, x.ndim, 0.0)
    return result


@mil_op("instance_norm", arithmetic=True)
def instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = _EPSILON,
) -> Array:
    """Each channel of each batch entry by its own mean and variance:
    ``tensor<[n, C, *D], T>, tensor<[C], T> x 2``."""
    centred, deviation = _centred(x, tuple(range(2, x.ndim)), epsilon)
    centred *= _by_channel(gamma, x.ndim, 1.0) / deviation
    centred += _by_channel(beta, x.ndim, 0.0)
    return centred


@mil_op("layer_norm", arithmetic=True)
def layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = _EPSILON,
) -> Array:
    """By mean and variance over ``axes``, all by default; gamma and beta have those axes' shape."""
    over = tuple(range(x.ndim)) if axes is None else tuple(int(axis) % x.ndim for axis in axes)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    result, deviation = _centred(x, over, epsilon)
    result /= deviation
    if gamma is not None:
        result *= gamma.reshape(shape)
    if beta is not None:
        result += beta.reshape(shape)
    return result


@mil_op("l2_norm", arithmetic=True)
def l2_norm(x: Array, epsilon: float = 1e-6) -> Array:
    """``x / sqrt(sum(x^2) + epsilon)`` over the last three axes: ``tensor<[*B, C, H, W], T>``."""
    return x / np.sqrt(np.sum(np.square(x), axis=(-3, -2, -1), keepdims=True) + epsilon)


@mil_op("local_response_norm", arithmetic=True)
def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """``x / (k + alpha / size * sum of x^2 over the nearest channels) ^ beta``:
    ``tensor<[n, C, *D], T>``, ``size`` channels around each."""
    size = int(size)
    pairs = [(0, 0)] * x.ndim
    pairs[1] = (size // 2, (size - 1) // 2)
    squares = sized.pad(np.square(x), pairs)
    near = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(axis=-1)
    return x / np.power(k + alpha / size * near, beta)
