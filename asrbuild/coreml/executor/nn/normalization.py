"""Normalizations, and scales and biases with a shape of their own.

The channel is the third axis from the end. Statistics are computed in float32.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil import normalization as mil
from asrbuild.coreml.executor.nn.by_batch import by_batch
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

_F = np.float32


@nn_layer("mvn")
def mvn(layer: Any, weights: NnWeights) -> Any:
    """``(x - mean) / (deviation + epsilon)`` over the last two axes, or the last three with
    ``acrossChannels``; without ``normalizeVariance`` ``x - mean``."""
    params = layer.mvn
    axes = (-3, -2, -1) if params.acrossChannels else (-2, -1)
    epsilon = _F(params.epsilon or 1e-6)

    def run(x: Array) -> Array:
        centred = x - np.mean(x, axis=axes, keepdims=True)
        if not params.normalizeVariance:
            return centred
        variance = np.mean(np.square(centred), axis=axes, keepdims=True)
        return centred / np.sqrt(variance + epsilon)

    return run


@nn_layer("l2normalize")
def l2_normalize(layer: Any, weights: NnWeights) -> Any:
    """``x / sqrt(sum(x^2) + epsilon)`` over the last three axes."""
    epsilon: Any = _F(layer.l2normalize.epsilon or 1e-6)
    return lambda x: mil.l2_norm(x, epsilon)


@nn_layer("lrn")
def lrn(layer: Any, weights: NnWeights) -> Any:
    """``x / (k + alpha / localSize * sum of x^2 over the nearest channels) ^ beta``."""
    params = layer.lrn
    values: dict[str, Any] = {
        "size": int(params.localSize),
        "alpha": _F(params.alpha),
        "beta": _F(params.beta),
        "k": _F(params.k or 1.0),
    }
    return by_batch(partial(mil.local_response_norm, **values))


@nn_layer("layerNormalization")
def layer_normalization(layer: Any, weights: NnWeights) -> Any:
    """By mean and variance over the last axes, ``normalizedShape``; then gamma and beta."""
    params = layer.layerNormalization
    shape = tuple(int(size) for size in params.normalizedShape)
    gamma, beta = (weights.read(one, shape) for one in (params.gamma, params.beta))
    axes = np.arange(-len(shape), 0)
    epsilon: Any = _F(params.eps)
    return lambda x: mil.layer_norm(x, axes, gamma, beta, epsilon)


@nn_layer("scale")
def scale(layer: Any, weights: NnWeights) -> Any:
    """``x * scale + bias``, each of shape (1), (C), (1, H, W) or (C, H, W)."""
    params = layer.scale
    factor = _shaped(weights, params.scale, params.shapeScale)
    if not params.hasBias:
        return lambda x: x * factor
    offset = _shaped(weights, params.bias, params.shapeBias)
    return lambda x: x * factor + offset


@nn_layer("bias")
def bias(layer: Any, weights: NnWeights) -> Any:
    """``x + bias`` of shape (1), (C), (1, H, W) or (C, H, W)."""
    offset = _shaped(weights, layer.bias.bias, layer.bias.shape)
    return lambda x: x + offset


def _shaped(weights: NnWeights, message: Any, shape: Any) -> Array:
    """Weights reshaped to broadcast over the last three axes; a single size is the channel's."""
    sizes = tuple(int(size) for size in shape) or (1,)
    return weights.read(message, (*sizes, 1, 1) if len(sizes) == 1 else sizes)
