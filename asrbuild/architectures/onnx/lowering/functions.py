"""Lowers functions of one element (powers, trigonometry, activations) and softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import (
    LOWERINGS,
    NodeCall,
    Var,
    lowers,
    rank_of,
    shape_of,
)
from asrbuild.architectures.onnx.lowering.values import Value, as_sizes, is_known, scalar, type_name

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
#: First op set in which a softmax is along one axis; before, it flattens the later axes.
_ONE_AXIS = 13

_UNARY = {
    name: name.lower()
    for name in """
    Abs Acos Asin Atan Atanh Ceil Cos Cosh Erf Exp Floor Relu Round Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Tan Tanh
    """.split()
} | {"Not": "logical_not", "Swish": "silu"}


def _unary(name: str) -> Callable[..., Var]:
    return lambda call, x: getattr(mb, name)(x=call.var(x))


LOWERINGS.update({op: _unary(name) for op, name in _UNARY.items()})


@lowers("Log")
def log(call: NodeCall, x: Value) -> Var:
    """A logarithm without the floor that MIL adds to its argument."""
    return mb.log(x=call.var(x), epsilon=np.float32(0))


@lowers("Reciprocal")
def reciprocal(call: NodeCall, x: Value) -> Var:
    """1 / x."""
    return mb.inverse(x=call.var(x), epsilon=np.float32(0))


@lowers("LeakyRelu")
def leaky_relu(call: NodeCall, x: Value) -> Var:
    """A small slope below zero."""
    return mb.leaky_relu(x=call.var(x), alpha=np.float32(call.attribute("alpha", 0.01)))


@lowers("Elu")
def elu(call: NodeCall, x: Value) -> Var:
    """An exponential below zero."""
    return mb.elu(x=call.var(x), alpha=np.float32(call.attribute("alpha", 1.0)))


@lowers("Selu")
def selu(call: NodeCall, x: Value) -> Var:
    """A scaled ``Elu``."""
    alpha = np.float32(call.attribute("alpha", _SELU_ALPHA))
    gamma = np.float32(call.attribute("gamma", _SELU_GAMMA))
    return mb.mul(x=mb.elu(x=call.var(x), alpha=alpha), y=gamma)


@lowers("ThresholdedRelu")
def thresholded_relu(call: NodeCall, x: Value) -> Var:
    """Zero up to a threshold."""
    x, alpha = call.var(x), np.float32(call.attribute("alpha", 1.0))
    above = mb.cast(x=mb.greater(x=x, y=alpha), dtype="fp32")
    return mb.mul(x=x, y=above)


@lowers("HardSigmoid")
def hard_sigmoid(call: NodeCall, x: Value) -> Var:
    """A line between 0 and 1."""
    alpha = np.float32(call.attribute("alpha", 0.2))
    return mb.sigmoid_hard(x=call.var(x), alpha=alpha, beta=np.float32(call.attribute("beta", 0.5)))


@lowers("HardSwish")
def hard_swish(call: NodeCall, x: Value) -> Var:
    """x times a hard sigmoid."""
    x = call.var(x)
    return mb.mul(x=x, y=mb.sigmoid_hard(x=x, alpha=np.float32(1 / 6), beta=np.float32(0.5)))


@lowers("Mish")
def mish(call: NodeCall, x: Value) -> Var:
    """x tanh(softplus(x))."""
    x = call.var(x)
    return mb.mul(x=x, y=mb.tanh(x=mb.softplus(x=x)))


@lowers("Gelu")
def gelu(call: NodeCall, x: Value) -> Var:
    """GELU, exact or approximated by a tanh."""
    approximate = call.attribute("approximate", "none") == "tanh"
    return mb.gelu(x=call.var(x), mode="TANH_APPROXIMATION" if approximate else "EXACT")


@lowers("Cast")
def cast(call: NodeCall, x: Value) -> Var:
    """A cast to the nearest type that MIL supports."""
    from onnx import helper

    kind = np.dtype(helper.tensor_dtype_to_np_dtype(call.attribute("to"))).kind
    wanted = {"i": "int32", "u": "int32", "b": "bool"}.get(kind, "fp32")
    x = call.var(x)
    if is_known(x):
        x = mb.const(val=x)
    have = type_name(x)
    if have == wanted:
        return x
    if wanted == "bool":
        return mb.not_equal(x=x, y=scalar(x, 0))
    return mb.cast(x=x, dtype=wanted)


@lowers("Softmax")
def softmax(call: NodeCall, x: Value) -> Var:
    """A softmax along one axis; before op set 13, over that axis and all later ones."""
    return _flattened(call, x, lambda x, axis: mb.softmax(x=x, axis=axis))


@lowers("LogSoftmax")
def log_softmax(call: NodeCall, x: Value) -> Var:
    """The logarithm of a softmax, with differences to the largest element against overflow."""

    def write(x: Var, axis: int) -> Var:
        largest = mb.reduce_max(x=x, axes=[axis], keep_dims=True)
        shifted = mb.sub(x=x, y=largest)
        total = mb.reduce_sum(x=mb.exp(x=shifted), axes=[axis], keep_dims=True)
        return mb.sub(x=shifted, y=mb.log(x=total, epsilon=np.float32(0)))

    return _flattened(call, x, write)


def _flattened(call: NodeCall, x: Value, write: Callable[[Var, int], Var]) -> Var:
    x, rank = call.var(x), rank_of(x)
    one_axis = call.node.opset >= _ONE_AXIS
    axis = call.attribute("axis", -1 if one_axis else 1) % rank
    if one_axis or axis == rank - 1:
        return write(x, axis)
    sizes = shape_of(x)
    flat = mb.reshape(x=x, shape=call.var(as_sizes([*sizes[:axis], np.prod(sizes[axis:])])))
    return mb.reshape(x=write(flat, axis), shape=call.var(as_sizes(sizes)))
