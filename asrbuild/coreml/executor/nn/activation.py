"""``activation``, ``softmaxND``, ``softmax``, ``clip``, ``clampedReLU``, ``gelu``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.mil import activation as mil
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import NOT_HERE, nn_layer

_F = np.float32


def activation_function(params: Any, weights: NnWeights | None) -> Any:
    """The function of one array for an ``ActivationParams`` message."""
    kind = params.WhichOneof("NonlinearityType")
    simple = {
        "ReLU": mil.relu,
        "tanh": np.tanh,
        "sigmoid": mil.sigmoid,
        "softsign": mil.softsign,
        "softplus": mil.softplus,
    }
    if kind in simple:
        return simple[kind]
    given: Any = getattr(params, kind) if kind else None
    if kind in ("PReLU", "parametricSoftplus"):
        assert weights is not None
        return _by_channel(kind, given, weights)
    two_parameters: dict[str | None, Callable[..., Array]] = {
        "linear": mil.linear_activation,
        "scaledTanh": mil.scaled_tanh,
        "sigmoidHard": mil.sigmoid_hard,
    }
    if kind in two_parameters:
        alpha, beta = _F(given.alpha), _F(given.beta)
        if kind == "linear" and alpha == 1 and beta == 0:
            return lambda x: x
        return partial(two_parameters[kind], alpha=alpha, beta=beta)
    one_parameter: dict[str | None, Callable[..., Array]] = {
        "leakyReLU": mil.leaky_relu,
        "thresholdedReLU": mil.thresholded_relu,
        "ELU": mil.elu,
    }
    if kind in one_parameter:
        return partial(one_parameter[kind], alpha=_F(given.alpha))
    raise AsrbuildError(
        f"the executor has no activation {kind}",
        fix=NOT_HERE,
    )


def _by_channel(kind: str, given: Any, weights: NnWeights) -> Any:
    """An activation with a parameter for each channel, the third axis from the end."""
    alpha = weights.read(given.alpha).reshape(-1, 1, 1)
    if kind == "PReLU":
        return lambda x: np.where(x > 0, x, alpha * x)
    beta = weights.read(given.beta).reshape(-1, 1, 1)
    return lambda x: alpha * mil.softplus(beta * x)


@nn_layer("activation")
def activation(layer: Any, weights: NnWeights) -> Any:
    """An activation function of every value: any shape to the same."""
    return activation_function(layer.activation, weights)


@nn_layer("softmaxND")
def softmax_nd(layer: Any, weights: NnWeights) -> Any:
    """Softmax along ``axis``: any shape to the same."""
    axis = layer.softmaxND.axis
    return lambda x: mil.softmax(x, axis)


@nn_layer("softmax")
def softmax(layer: Any, weights: NnWeights) -> Any:
    """Softmax along the channel axis, third from the end: any shape to the same."""
    return lambda x: mil.softmax(x, -3)


@nn_layer("clip")
def clip(layer: Any, weights: NnWeights) -> Any:
    """Limits to ``[minVal, maxVal]``: any shape to the same."""
    low, high = _F(layer.clip.minVal), _F(layer.clip.maxVal)
    return lambda x: np.clip(x, low, high)


@nn_layer("clampedReLU")
def clamped_relu(layer: Any, weights: NnWeights) -> Any:
    """``min(beta, x)`` where ``x >= 0``, else ``min(beta, alpha * x)``: any shape to the same."""
    alpha: Any = _F(layer.clampedReLU.alpha)
    beta: Any = _F(layer.clampedReLU.beta)
    return lambda x: mil.clamped_relu(x, alpha, beta)


@nn_layer("gelu")
def gelu(layer: Any, weights: NnWeights) -> Any:
    """Gaussian error linear unit, exact or approximate: any shape to the same."""
    mode = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")[layer.gelu.mode]
    return lambda x: mil.gelu(x, mode)
