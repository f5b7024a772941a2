"""Lowers element-wise ops of one or two tensors, and activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import like

_ONE_TO_ONE = {
    name: getattr(raw, name)
    for name in """
    acos asin atan atanh cos cosh erf exp relu sigmoid silu sin sinh sqrt tan tanh
    """.split()
} | {"abs": raw.abs_, "round": raw.round_, "logical_not": raw.not_}
_PAIRS = {
    name: getattr(raw, f"broadcasting_{name.removeprefix('logical_')}")
    for name in """
    add sub mul maximum minimum pow equal not_equal greater logical_and logical_or
    """.split()
}


def _one(function: Any) -> Any:
    return lambda call: function(call.value("x"))


def _two(function: Any) -> Any:
    return lambda call: function(*_pair(call))


for _name, _function in _ONE_TO_ONE.items():
    op(_name)(_one(_function))
for _name, _function in _PAIRS.items():
    op(_name)(_two(_function))


def _pair(call: Call) -> list[Any]:
    return values.same_rank(call.value("x"), call.value("y"))


@op("less")
def less(call: Call) -> Any:
    x, y = _pair(call)
    return raw.broadcasting_greater(y, x)


@op("less_equal")
def less_equal(call: Call) -> Any:
    x, y = _pair(call)
    return _or(raw.broadcasting_greater(y, x), raw.broadcasting_equal(x, y))


@op("greater_equal")
def greater_equal(call: Call) -> Any:
    x, y = _pair(call)
    return _or(raw.broadcasting_greater(x, y), raw.broadcasting_equal(x, y))


def _or(x: Any, y: Any) -> Any:
    return raw.broadcasting_or(x, y)


@op("logical_xor")
def logical_xor(call: Call) -> Any:
    return raw.broadcasting_not_equal(*_pair(call))


@op("real_div")
def real_div(call: Call) -> Any:
    return raw.broadcasting_divide(*_pair(call))


@op("floor_div")
def floor_div(call: Call) -> Any:
    return raw.broadcasting_floor_divide(*_pair(call))


@op("mod")
def mod(call: Call) -> Any:
    x, y = _pair(call)
    return values.sub(x, values.mul(raw.broadcasting_floor_divide(x, y), y))


@op("square")
def square(call: Call) -> Any:
    return values.mul(call.value("x"), call.value("x"))


@op("floor")
def floor(call: Call) -> Any:
    x = call.value("x")
    return raw.broadcasting_floor_divide(x, _one_like(x))


@op("ceil")
def ceil(call: Call) -> Any:
    x = call.value("x")
    zero = like(x, np.zeros([1] * values.rank(x)))
    return values.sub(zero, raw.broadcasting_floor_divide(values.sub(zero, x), _one_like(x)))


def _one_like(x: Any) -> Any:
    return like(x, np.ones([1] * values.rank(x)))


@op("sign")
def sign(call: Call) -> Any:
    x = call.value("x")
    kind = values.dtype_of(x)
    above, below = (raw.cast(one, kind) for one in (_above(x, like(x, 0)), _above(like(x, 0), x)))
    return values.sub(above, below)


@op("exp2")
def exp2(call: Call) -> Any:
    x = call.value("x")
    return raw.exp(values.mul(x, like(x, math.log(2))))


@op("inverse")
def inverse(call: Call) -> Any:
    x = _plus_epsilon(call, 1e-4)
    return values.divide(like(x, 1), x)


@op("log")
def log(call: Call) -> Any:
    return raw.log(_plus_epsilon(call, 1e-45))


@op("rsqrt")
def rsqrt(call: Call) -> Any:
    x = _plus_epsilon(call, 1e-12)
    return values.divide(like(x, 1), raw.sqrt(x))


def _plus_epsilon(call: Call, otherwise: float) -> Any:
    x = call.value("x")
    return values.add(x, like(x, call.number("epsilon", otherwise)))


@op("clip")
def clip(call: Call) -> Any:
    x = call.value("x")
    return _least(_most(x, call.value("alpha")), call.value("beta"))


@op("threshold")
def threshold(call: Call) -> Any:
    return _most(call.value("x"), call.value("alpha"))


def _most(x: Any, y: Any) -> Any:
    return raw.broadcasting_maximum(*values.same_rank(x, y))


def _least(x: Any, y: Any) -> Any:
    return raw.broadcasting_minimum(*values.same_rank(x, y))


def _above(x: Any, y: Any) -> Any:
    return raw.broadcasting_greater(*values.same_rank(x, y))


@op("relu6")
def relu6(call: Call) -> Any:
    x = call.value("x")
    return _least(raw.relu(x), like(x, 6))


@op("clamped_relu")
def clamped_relu(call: Call) -> Any:
    return _least(_leaky(call.value("x"), call.value("alpha")), call.value("beta"))


@op("leaky_relu")
def leaky_relu(call: Call) -> Any:
    return _leaky(call.value("x"), call.value("alpha"))


def _leaky(x: Any, alpha: Any) -> Any:
    return values.where(_above(like(x, 0), x), values.mul(alpha, x), x)


@op("thresholded_relu")
def thresholded_relu(call: Call) -> Any:
    x = call.value("x")
    return values.where(_above(call.value("alpha"), x), like(x, 0), x)


@op("elu")
def elu(call: Call) -> Any:
    x = call.value("x")
    below = raw.exp(_least(x, like(x, 0)))
    return values.where(
        _above(x, like(x, 0)), x, values.mul(call.value("alpha"), values.sub(below, like(x, 1)))
    )


@op("prelu")
def prelu(call: Call) -> Any:
    x = call.value("x")
    alpha = by_channel(call.array("alpha"), values.rank(x))
    return _leaky(x, values.const(alpha))


def by_channel(array: Any, of_rank: int) -> Any:
    """A vector with one number a channel, reshaped for broadcasting: (1, C, 1, ...)."""
    return np.asarray(array).reshape(1, -1, *[1] * (of_rank - 2))


@op("linear_activation")
def linear_activation(call: Call) -> Any:
    scaled = values.mul(call.value("alpha"), call.value("x"))
    return values.add(scaled, call.value("beta"))


@op("scaled_tanh")
def scaled_tanh(call: Call) -> Any:
    inner = values.mul(call.value("beta"), call.value("x"))
    return values.mul(call.value("alpha"), raw.tanh(inner))


@op("sigmoid_hard")
def sigmoid_hard(call: Call) -> Any:
    x = call.value("x")
    return hard_sigmoid(x, call.value("alpha"), call.value("beta"))


def hard_sigmoid(x: Any, alpha: Any, beta: Any) -> Any:
    """``min(max(alpha * x + beta, 0), 1)``."""
    line = values.add(values.mul(alpha, x), beta)
    return _least(raw.relu(line), like(x, 1))


@op("softplus")
def softplus(call: Call) -> Any:
    return _softplus(call.value("x"))


def _softplus(x: Any) -> Any:
    small = raw.exp(values.sub(like(x, 0), raw.abs_(x)))
    return values.add(raw.log(values.add(small, like(x, 1))), raw.relu(x))


@op("softplus_parametric")
def softplus_parametric(call: Call) -> Any:
    x = call.value("x")
    alpha, beta = (
        values.const(by_channel(call.array(name), values.rank(x))) for name in ("alpha", "beta")
    )
    return values.mul(alpha, _softplus(values.mul(beta, x)))


@op("softsign")
def softsign(call: Call) -> Any:
    x = call.value("x")
    return values.divide(x, values.add(raw.abs_(x), like(x, 1)))


@op("softmax")
def softmax(call: Call) -> Any:
    return raw.softmax(call.value("x"), values.index(call.number("axis", -1)))


@op("gelu")
def gelu(call: Call) -> Any:
    x, mode = call.value("x"), call.array("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return values.mul(x, raw.sigmoid(values.mul(x, like(x, 1.702))))
    half = values.mul(x, like(x, 0.5))
    if mode == "TANH_APPROXIMATION":
        cube = values.mul(values.mul(x, x), x)
        inner = values.add(x, values.mul(cube, like(x, 0.044715)))
        bent = raw.tanh(values.mul(inner, like(x, math.sqrt(2 / math.pi))))
    else:
        bent = raw.erf(values.mul(x, like(x, math.sqrt(0.5))))
    return values.mul(half, values.add(bent, like(x, 1)))


@op("cast")
def cast(call: Call) -> Any:
    x, wanted = call.value("x"), call.output_dtype()
    if wanted is np.bool_:
        return raw.broadcasting_not_equal(*values.same_rank(x, like(x, 0)))
    return x if values.dtype_of(x) is wanted else raw.cast(x, wanted)


@op("identity")
def identity(call: Call) -> Any:
    return call.value("x")


@op("select")
def select(call: Call) -> Any:
    return values.where(call.value("cond"), call.value("a"), call.value("b"))
