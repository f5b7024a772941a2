"""Element-wise layers of one or several blobs; comparisons and logic give 1.0 and 0.0."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil.unary import erf
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

_F = np.float32


def _register_unary(name: str, function: Callable[[Array], Array]) -> None:
    def compile_layer(layer: Any, weights: NnWeights) -> Any:
        return function

    compile_layer.__doc__ = f"{name} of every value: any shape to the same."
    nn_layer(name)(compile_layer)


_UNARY = ("ceil", "floor", "sign", "round", "exp2", "sin", "cos", "tan", "asin", "acos", "atan")
_HYPERBOLIC = ("sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
for _name in (*_UNARY, *_HYPERBOLIC):
    _register_unary(_name, getattr(np, _name))
_register_unary("erf", erf)


def _register_binary(name: str, function: Callable[..., Array], meaning: str) -> None:
    def compile_layer(layer: Any, weights: NnWeights) -> Any:
        params = getattr(layer, name)
        alone = len(layer.input) == 1
        other = _F(params.alpha) if alone and hasattr(params, "alpha") else None

        def run(*inputs: Array) -> Array:
            values = inputs if other is None else (*inputs, other)
            return np.asarray(reduce(function, values)).astype(_F, copy=False)

        return run

    compile_layer.__doc__ = f"{meaning}, broadcast; a single input goes with ``alpha``."
    nn_layer(name)(compile_layer)


_BINARY: tuple[tuple[str, Callable[..., Array], str], ...] = (
    ("add", np.add, "Sum"),
    ("multiply", np.multiply, "Product"),
    ("max", np.maximum, "Largest"),
    ("min", np.minimum, "Smallest"),
    ("addBroadcastable", np.add, "x + y"),
    ("subtractBroadcastable", np.subtract, "x - y"),
    ("multiplyBroadcastable", np.multiply, "x * y"),
    ("divideBroadcastable", np.divide, "x / y"),
    ("floorDivBroadcastable", np.floor_divide, "x / y, rounded down"),
    ("modBroadcastable", np.mod, "Remainder with the sign of y"),
    ("powBroadcastable", np.power, "x ^ y"),
    ("minBroadcastable", np.minimum, "Smallest"),
    ("maxBroadcastable", np.maximum, "Largest"),
    ("equal", np.equal, "x == y"),
    ("notEqual", np.not_equal, "x != y"),
    ("lessThan", np.less, "x < y"),
    ("lessEqual", np.less_equal, "x <= y"),
    ("greaterThan", np.greater, "x > y"),
    ("greaterEqual", np.greater_equal, "x >= y"),
    ("logicalAnd", np.logical_and, "x and y"),
    ("logicalOr", np.logical_or, "x or y"),
    ("logicalXor", np.logical_xor, "x xor y"),
)
for _name, _binary, _meaning in _BINARY:
    _register_binary(_name, _binary, _meaning)


@nn_layer("logicalNot")
def logical_not(layer: Any, weights: NnWeights) -> Any:
    """1.0 where the value is zero, else 0.0: any shape to the same."""
    return lambda x: (x == 0).astype(_F)


@nn_layer("average")
def average(layer: Any, weights: NnWeights) -> Any:
    """Mean of the inputs, broadcast."""
    return lambda *inputs: reduce(np.add, inputs) / _F(len(inputs))


@nn_layer("unary")
def unary(layer: Any, weights: NnWeights) -> Any:
    """A function of ``scale * x + shift``: any shape to the same; ``log`` adds ``epsilon``.

    ``NeuralNetwork.proto`` has ``log x``, but coremltools writes a MIL ``log`` with its epsilon,
    and Apple's tests expect ``log(x + epsilon)`` of both formats.
    """
    params = layer.unary
    scale, shift = _F(params.scale or 1.0), _F(params.shift)
    alpha, epsilon = _F(params.alpha), _F(params.epsilon or 1e-6)
    functions: tuple[Callable[[Array], Array], ...] = (
        np.sqrt,
        lambda x: _F(1) / np.sqrt(x + epsilon),
        lambda x: _F(1) / (x + epsilon),
        lambda x: np.power(x, alpha),
        np.exp,
        lambda x: np.log(x + epsilon),
        np.abs,
        lambda x: np.maximum(x, alpha),
    )
    function = functions[params.type]
    return lambda x: function(scale * x + shift)


@nn_layer("whereBroadcastable")
def where_broadcastable(layer: Any, weights: NnWeights) -> Any:
    """The second input where the first is not zero, else the third; broadcast."""
    return lambda condition, a, b: np.where(condition != 0, a, b)


@nn_layer("cumSum")
def cum_sum(layer: Any, weights: NnWeights) -> Any:
    """Running sum along ``axis``: any shape to the same."""
    from asrbuild.coreml.executor.mil.tensor import cumsum

    params = layer.cumSum
    return lambda x: cumsum(x, params.axis, params.excludeFinalSum, params.reverse)
