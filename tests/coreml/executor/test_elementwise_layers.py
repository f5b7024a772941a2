"""Layers that compute each element by itself, compared with Python's ``math``."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.coreml.executor.harness import floats, integers
from tests.coreml.executor.layers import run_layer, same
from tests.coreml.executor.plain import (
    each,
)

F = np.float32


UNARY = {
    "ceil": math.ceil,
    "floor": math.floor,
    "sign": lambda v: (v > 0) - (v < 0),
    "round": round,
    "exp2": lambda v: 2.0**v,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "asinh": math.asinh,
    "atanh": math.atanh,
    "erf": math.erf,
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    x = floats((2, 3), low=-0.9, high=0.9)
    same(run_layer(f"add_{name}", x), each(UNARY[name], x))


def test_acosh() -> None:
    x = floats((2, 3), low=1.1, high=3)
    same(run_layer("add_acosh", x), each(math.acosh, x))


BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "floor_div": lambda a, b: math.floor(a / b),
    "mod": lambda a, b: a - b * math.floor(a / b),
    "pow": math.pow,
    "min": min,
    "max": max,
}


@pytest.mark.parametrize("name", BINARY)
def test_broadcastable(name: str) -> None:
    x, y = floats((2, 1, 3), low=0.3, high=3), floats((4, 1), low=0.4, high=2)
    same(run_layer(f"add_{name}_broadcastable", x, y), each(BINARY[name], x, y))


def test_comparisons_give_ones_and_zeros() -> None:
    x, y = integers((3, 4), 0, 3).astype(F), integers((4,), 0, 3).astype(F)
    for method, options, function in (
        ("add_equal", {}, lambda a, b: a == b),
        ("add_not_equal", {}, lambda a, b: a != b),
        ("add_less_than", {}, lambda a, b: a < b),
        ("add_less_than", {"use_less_than_equal": True}, lambda a, b: a <= b),
        ("add_greater_than", {}, lambda a, b: a > b),
        ("add_greater_than", {"use_greater_than_equal": True}, lambda a, b: a >= b),
    ):
        same(run_layer(method, x, y, **options), each(function, x, y))
        same(run_layer(method, x, alpha=1.0, **options), each(lambda a, f=function: f(a, 1), x))


def test_logic() -> None:
    x, y = integers((3, 4), 0, 2).astype(F), integers((4,), 0, 2).astype(F)
    for mode, function in (
        ("AND", lambda a, b: a and b),
        ("OR", lambda a, b: a or b),
        ("XOR", lambda a, b: a != b),
    ):
        same(run_layer("add_logical", x, y, mode=mode), each(function, x, y))
    same(run_layer("add_logical", x, mode="NOT"), each(lambda a: not a, x))


def test_elementwise_with_one_input_uses_alpha() -> None:
    x, y, z = floats((2, 3)), floats((2, 3), seed=1), floats((2, 3), seed=2)
    for mode, function in (("ADD", lambda a, b: a + b), ("MULTIPLY", lambda a, b: a * b)):
        method = "add_elementwise"
        same(run_layer(method, x, mode=mode, alpha=2.5), each(lambda a, f=function: f(a, 2.5), x))
        expected = each(lambda a, b, c, f=function: f(f(a, b), c), x, y, z)
        same(run_layer(method, x, y, z, mode=mode), expected)
    same(run_layer("add_elementwise", x, y, mode="MAX"), each(max, x, y))
    same(run_layer("add_elementwise", x, y, mode="MIN"), each(min, x, y))
    same(run_layer("add_elementwise", x, y, z, mode="AVE"), (x + y + z) / 3)


def test_unary_functions() -> None:
    x = floats((2, 3), low=0.2, high=2)
    cases = {
        "sqrt": math.sqrt,
        "rsqrt": lambda v: (v + 0.01) ** -0.5,
        "inverse": lambda v: 1 / (v + 0.01),
        "power": lambda v: v**1.5,
        "exp": math.exp,
        "log": lambda v: math.log(v + 0.01),
        "abs": abs,
        "threshold": lambda v: max(v, 1.5),
    }
    for mode, function in cases.items():
        expected = each(lambda v, f=function: f(0.5 * v + 0.25), x)
        given = {"alpha": 1.5, "scale": 0.5, "shift": 0.25, "epsilon": 0.01}
        same(run_layer("add_unary", x, mode=mode, **given), expected)


ACTIVATIONS = {
    "RELU": (None, lambda v: max(v, 0)),
    "TANH": (None, math.tanh),
    "SIGMOID": (None, lambda v: 1 / (1 + math.exp(-v))),
    "SOFTSIGN": (None, lambda v: v / (1 + abs(v))),
    "SOFTPLUS": (None, lambda v: math.log1p(math.exp(v))),
    "LINEAR": ([2.0, 0.5], lambda v: 2 * v + 0.5),
    "SCALED_TANH": ([1.5, 0.5], lambda v: 1.5 * math.tanh(0.5 * v)),
    "SIGMOID_HARD": ([0.3, 0.5], lambda v: min(max(0.3 * v + 0.5, 0), 1)),
    "LEAKYRELU": ([0.25], lambda v: v if v >= 0 else 0.25 * v),
    "THRESHOLDEDRELU": (0.5, lambda v: v if v >= 0.5 else 0),
    "ELU": (0.5, lambda v: v if v > 0 else 0.5 * math.expm1(v)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    params, function = ACTIVATIONS[name]
    x = floats((2, 3, 4), low=-3, high=3)
    got = run_layer("add_activation", x, non_linearity=name, params=params)
    same(got, each(function, x))


def test_activations_by_channel_and_the_rest() -> None:
    x, alpha, beta = floats((3, 2, 4)), floats((3,)), floats((3,), seed=1)
    a, b = alpha.reshape(3, 1, 1), beta.reshape(3, 1, 1)
    got = run_layer("add_activation", x, non_linearity="PRELU", params=alpha)
    same(got, each(lambda v, s: v if v > 0 else s * v, x, a))
    got = run_layer("add_activation", x, non_linearity="PARAMETRICSOFTPLUS", params=[alpha, beta])
    same(got, each(lambda v, s, t: s * math.log1p(math.exp(t * v)), x, a, b))
    same(
        run_layer("add_clip", x, min_value=-0.5, max_value=1.0),
        each(lambda v: min(max(v, -0.5), 1), x),
    )
    same(
        run_layer("add_clamped_relu", x, alpha=0.25, beta=1.0),
        each(lambda v: min(1, v if v >= 0 else 0.25 * v), x),
    )
    same(run_layer("add_gelu", x), each(lambda v: v * 0.5 * (1 + math.erf(v / 2**0.5)), x))
    powers = np.exp(x.astype(float))
    same(run_layer("add_softmax_nd", x, axis=1), powers / powers.sum(1, keepdims=True))
    same(run_layer("add_softmax", x), powers / powers.sum(0, keepdims=True))
