"""Layers that draw random values, for distributions with a single value, as in MIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil import random as mil
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

_DRAWS: dict[str, tuple[Callable[..., Array], tuple[str, ...], str]] = {
    "randomNormal": (mil.random_normal, ("mean", "stdDev"), "The mean, where the deviation is 0"),
    "randomUniform": (mil.random_uniform, ("minVal", "maxVal"), "The bound, where both are one"),
    "randomBernoulli": (mil.random_bernoulli, ("prob",), "0 or 1, where that is certain"),
}
_SHAPES = {
    "Like": "in the shape of the input.",
    "Static": "in ``outputShape``.",
    "Dynamic": "in the shape that the input holds.",
}


def _register(name: str, kind: str, form: str) -> None:
    draw, fields, meaning = _DRAWS[kind]

    def compile_layer(layer: Any, weights: NnWeights) -> Any:
        params = getattr(layer, name)
        values = [np.float32(getattr(params, field)) for field in fields]
        if form == "Static":
            shape = np.array(params.outputShape, np.int64)
            return lambda: draw(shape, *values)
        if form == "Like":
            return lambda x: draw(np.array(x.shape), *values)
        return lambda sizes: draw(sizes, *values)

    compile_layer.__doc__ = f"{meaning}, {_SHAPES[form]}"
    nn_layer(name)(compile_layer)


for _kind in _DRAWS:
    for _form in _SHAPES:
        _register(f"{_kind}{_form}", _kind, _form)


@nn_layer("categoricalDistribution")
def categorical_distribution(layer: Any, weights: NnWeights) -> Any:
    """``(*, 1) -> (*, numSamples)`` of zeros, where there is one category."""
    count = int(layer.categoricalDistribution.numSamples) or 1
    return lambda x: mil.random_categorical(x, "logits", count)
