"""Lowers normalizations, by stored statistics or by those of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import add, dims, divide, ints, like, mul, rank, sub
from .elementwise import by_channel
from .reduction import axes_of

_EPSILON = 1e-5


@op("batch_norm")
def batch_norm(call: Call) -> Any:
    x = call.value("x")
    mean, variance = (np.asarray(call.array(name), np.float32) for name in ("mean", "variance"))
    gamma = np.asarray(call.array("gamma", 1), np.float32)
    scale = gamma / np.sqrt(variance + np.float32(call.number("epsilon", _EPSILON)))
    scaled = mul(sub(x, _channels(x, mean)), _channels(x, scale))
    return add(scaled, _channels(x, call.array("beta"))) if call.has("beta") else scaled


def _channels(x: Any, numbers: Any) -> Any:
    return like(x, by_channel(numbers, rank(x)))


def _centred_and_scaled(x: Any, axes: Sequence[int], epsilon: float) -> Any:
    """``(x - mean) / sqrt(variance + epsilon)`` over axes."""
    centred = sub(x, raw.reduce_mean(x, ints(*axes)))
    variance = raw.reduce_mean(mul(centred, centred), ints(*axes))
    return divide(centred, raw.sqrt(add(variance, like(x, epsilon))))


@op("instance_norm")
def instance_norm(call: Call) -> Any:
    x = call.value("x")
    result = _centred_and_scaled(x, range(2, rank(x)), call.number("epsilon", _EPSILON))
    if call.has("gamma"):
        result = mul(result, _channels(x, call.array("gamma")))
    return add(result, _channels(x, call.array("beta"))) if call.has("beta") else result


@op("layer_norm")
def layer_norm(call: Call) -> Any:
    x = call.value("x")
    axes = axes_of(call, x)
    result = _centred_and_scaled(x, axes, call.number("epsilon", _EPSILON))
    if call.has("gamma"):
        result = mul(result, _over(x, axes, call.array("gamma")))
    return add(result, _over(x, axes, call.array("beta"))) if call.has("beta") else result


def _over(x: Any, axes: Sequence[int], numbers: Any) -> Any:
    shape = [1] * rank(x)
    for axis, size in zip(sorted(axes), numbers.shape, strict=True):
        shape[axis] = size
    return like(x, numbers.reshape(shape))


@op("l2_norm")
def l2_norm(call: Call) -> Any:
    x = call.value("x")
    total = raw.reduce_sum(mul(x, x), ints(*range(rank(x) - 3, rank(x))))
    return divide(x, raw.sqrt(add(total, like(x, call.number("epsilon", 1e-6)))))


@op("local_response_norm")
def local_response_norm(call: Call) -> Any:
    x, size = call.value("x"), int(call.number("size"))
    channels = dims(x)[1]
    if channels is None:
        raise call.refused("an unknown number of channels")
    alpha, beta, k = (
        float(call.number(name, otherwise))
        for name, otherwise in (("alpha", 1e-4), ("beta", 0.75), ("k", 1.0))
    )
    around = [0, 0, size // 2, (size - 1) // 2, *[0, 0] * (rank(x) - 2)]
    squares = raw.pad(mul(x, x), values.unsigned(*around), like(x, 0), "constant")
    near = values.cut(squares, 1, 0, channels)
    for start in range(1, size):
        near = add(near, values.cut(squares, 1, start, start + channels))
    base = add(mul(near, like(x, alpha / size)), like(x, k))
    power = raw.broadcasting_pow(*values.same_rank(base, like(x, beta)))
    return divide(x, power)
