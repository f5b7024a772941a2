"""Lowers sums, products, comparisons and choices, element by element with broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import LOWERINGS, NodeCall, Var, lowers
from asrbuild.architectures.onnx.lowering.values import (
    Value,
    is_boolean,
    is_integer,
    is_known,
    scalar,
)

_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
}
_FOLDED = {"Min": "minimum", "Max": "maximum", "Sum": "add"}


def _binary(name: str) -> Callable[..., Var]:
    return lambda call, x, y: getattr(mb, name)(x=call.var(x), y=call.var(y))


def _folded(name: str) -> Callable[..., Var]:
    def lower(call: NodeCall, *values: Value) -> Var:
        return functools.reduce(lambda x, y: getattr(mb, name)(x=x, y=y), map(call.var, values))

    return lower


LOWERINGS.update({op: _binary(name) for op, name in _BINARY.items()})
LOWERINGS.update({op: _folded(name) for op, name in _FOLDED.items()})


@lowers("Mean")
def mean(call: NodeCall, *values: Value) -> Var:
    """The sum, divided by the number of values."""
    total = LOWERINGS["Sum"](call, *values)
    return mb.mul(x=total, y=np.float32(1 / len(values)))


@lowers("Equal")
def equal(call: NodeCall, x: Value, y: Value) -> Var:
    """Truth values are compared as integers."""
    x, y = call.var(x), call.var(y)
    if is_boolean(x):
        x, y = as_integers(x), as_integers(y)
    return mb.equal(x=x, y=y)


def as_integers(value: Value) -> Any:
    """Converts truth values to 0 and 1."""
    return value.astype(np.int32) if is_known(value) else mb.cast(x=value, dtype="int32")


@lowers("Div")
def divide(call: NodeCall, x: Value, y: Value) -> Var:
    """Integers are divided towards zero; MIL divides them towards minus infinity."""
    x, y = call.var(x), call.var(y)
    if not is_integer(x):
        return mb.real_div(x=x, y=y)
    quotient = mb.floor_div(x=mb.abs(x=x), y=mb.abs(x=y))
    return mb.mul(x=quotient, y=mb.mul(x=mb.sign(x=x), y=mb.sign(x=y)))


@lowers("Mod")
def modulo(call: NodeCall, x: Value, y: Value) -> Var:
    """With the sign of the divisor, or with ``fmod`` of the dividend."""
    x, y = call.var(x), call.var(y)
    if not call.attribute("fmod", 0):
        return mb.mod(x=x, y=y)
    return mb.mul(x=mb.mod(x=mb.abs(x=x), y=mb.abs(x=y)), y=mb.sign(x=x))


@lowers("Pow")
def power(call: NodeCall, x: Value, y: Value) -> Var:
    """The exponent may have another type than the base."""
    x, y = call.var(x), call.var(y)
    if is_integer(y) and not is_integer(x):
        y = y.astype(np.float32) if is_known(y) else mb.cast(x=y, dtype="fp32")
    if is_known(y) and y.size == 1 and float(y.ravel()[0]) == 2.0:
        return mb.mul(x=x, y=x)
    return mb.pow(x=x, y=y)


@lowers("Neg")
def negate(call: NodeCall, x: Value) -> Var:
    """Multiplied by -1."""
    x = call.var(x)
    return mb.mul(x=x, y=scalar(x, -1))


@lowers("Where")
def where(call: NodeCall, condition: Value, x: Value, y: Value) -> Var:
    """``x`` where the condition is true, else ``y``."""
    condition, x, y = call.var(condition), call.var(x), call.var(y)
    if is_boolean(x):
        chosen = mb.select(cond=condition, a=as_integers(x), b=as_integers(y))
        return mb.cast(x=chosen, dtype="bool")
    return mb.select(cond=condition, a=x, b=y)


@lowers("PRelu")
def prelu(call: NodeCall, x: Value, slope: Value) -> Var:
    """A slope for each channel, or of any shape that broadcasts."""
    x, slope = call.var(x), call.var(slope)
    low = mb.minimum(x=x, y=scalar(x, 0))
    return mb.add(x=mb.maximum(x=x, y=scalar(x, 0)), y=mb.mul(x=low, y=slope))


@lowers("Clip")
def clip(call: NodeCall, x: Value, low: Value = None, high: Value = None) -> Var:
    """Limits are inputs, or attributes before op set 11."""
    x = call.var(x)
    low = call.attribute("min") if low is None else call.var(low)
    high = call.attribute("max") if high is None else call.var(high)
    if low is not None:
        x = mb.maximum(x=x, y=scalar(x, low) if isinstance(low, float) else low)
    if high is not None:
        x = mb.minimum(x=x, y=scalar(x, high) if isinstance(high, float) else high)
    return x


@lowers("CumSum")
def cumulative_sum(call: NodeCall, x: Value, axis: Value) -> Var:
    """Running totals along one axis."""
    (at,) = call.numbers(axis, "an axis")
    x = call.var(x)
    return mb.cumsum(
        x=x,
        axis=at % len(x.shape),
        exclusive=bool(call.attribute("exclusive", 0)),
        reverse=bool(call.attribute("reverse", 0)),
    )
