"""Element-wise ops against Python's own ``math``, value by value, in double precision."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.coreml.executor.harness import check, floats, integers, run, run_op
from tests.coreml.executor.plain import each

FLOATS = (np.float32, np.float16)
SHAPES = ((1,), (7,), (2, 3), (2, 1, 3, 2), (0, 3))


UNARY = {
    "abs": (abs, -2, 2),
    "acos": (math.acos, -0.9, 0.9),
    "asin": (math.asin, -0.9, 0.9),
    "atan": (math.atan, -2, 2),
    "atanh": (math.atanh, -0.8, 0.8),
    "ceil": (math.ceil, -3, 3),
    "cos": (math.cos, -1.4, 1.4),
    "cosh": (math.cosh, -2, 2),
    "erf": (math.erf, -2, 2),
    "exp": (math.exp, -3, 3),
    "exp2": (lambda v: 2.0**v, -3, 3),
    "floor": (math.floor, -3, 3),
    "relu": (lambda v: max(v, 0.0), -2, 2),
    "relu6": (lambda v: min(max(v, 0.0), 6.0), -3, 9),
    "round": (lambda v: float(round(v)), -3, 3),
    "sigmoid": (lambda v: 1 / (1 + math.exp(-v)), -4, 4),
    "sign": (lambda v: float((v > 0) - (v < 0)), -2, 2),
    "silu": (lambda v: v / (1 + math.exp(-v)), -4, 4),
    "sin": (math.sin, -1.4, 1.4),
    "sinh": (math.sinh, -2, 2),
    "softplus": (lambda v: math.log1p(math.exp(v)), -4, 4),
    "softsign": (lambda v: v / (1 + abs(v)), -4, 4),
    "sqrt": (math.sqrt, 0.01, 4),
    "square": (lambda v: v * v, -3, 3),
    "tan": (math.tan, -1.2, 1.2),
    "tanh": (math.tanh, -3, 3),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str, dtype: type) -> None:
    function, low, high = UNARY[op]
    for shape in SHAPES:
        x = floats(shape, dtype, low, high)
        # coremltools rounds every step of its own float16 arithmetic; float32 shows agreement.
        check(op, each(function, x), {"x": x}, atol=1e-7, infer=dtype is np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
def test_unary_with_parameters(dtype: type) -> None:
    x = floats((3, 5), dtype, -2, 2)
    positive = floats((3, 5), dtype, 0.1, 3)
    a, b, e = dtype(0.5), dtype(1.25), dtype(0.01)
    fa, fb, fe = float(a), float(b), float(e)
    exact = {"infer": dtype is np.float32, "atol": 2e-7}
    check("clip", each(lambda v: min(max(v, fa), fb), x), {"x": x}, alpha=a, beta=b)
    check("threshold", each(lambda v: max(v, fa), x), {"x": x}, alpha=a)
    check("inverse", each(lambda v: 1 / (v + fe), positive), {"x": positive}, epsilon=e, **exact)
    check(
        "log",
        each(lambda v: math.log(v + fe), positive),
        {"x": positive},
        epsilon=e,
        rtol=2e-3 if dtype is np.float16 else 1e-5,
        **exact,
    )
    check("rsqrt", each(lambda v: (v + fe) ** -0.5, positive), {"x": positive}, epsilon=e, **exact)
    check("leaky_relu", each(lambda v: v if v >= 0 else fa * v, x), {"x": x}, alpha=a, **exact)
    check(
        "thresholded_relu", each(lambda v: v if v >= fa else 0.0, x), {"x": x}, alpha=a
    )  # coremltools writes into its own constant there
    check("elu", each(lambda v: v if v > 0 else fa * math.expm1(v), x), {"x": x}, alpha=a, **exact)
    check(
        "clamped_relu",
        each(lambda v: min(fb, v if v >= 0 else fa * v), x),
        {"x": x},
        alpha=a,
        beta=b,
        **exact,
    )
    check("linear_activation", each(lambda v: fa * v + fb, x), {"x": x}, alpha=a, beta=b, **exact)
    check(
        "scaled_tanh", each(lambda v: fa * math.tanh(fb * v), x), {"x": x}, alpha=a, beta=b, **exact
    )
    check(
        "sigmoid_hard",
        each(lambda v: min(max(fa * v + fb, 0), 1), x),
        {"x": x},
        alpha=a,
        beta=b,
        **exact,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_unary_by_channel(dtype: type) -> None:
    x = floats((2, 3, 2, 4), dtype)
    alpha, beta = floats((3,), dtype, 0.1, 0.9), floats((3,), dtype, 0.5, 1.5, seed=1)
    a, b = (v.astype(float).reshape(1, 3, 1, 1) for v in (alpha, beta))
    exact = {"infer": dtype is np.float32, "atol": 1e-7}
    check("prelu", each(lambda v, s: v if v > 0 else s * v, x, a), {"x": x}, alpha=alpha, **exact)
    check(
        "softplus_parametric",
        each(lambda v, s, t: s * math.log1p(math.exp(t * v)), x, a, b),
        {"x": x},
        alpha=alpha,
        beta=beta,
        **exact,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_and_softmax(dtype: type) -> None:
    x = floats((2, 3, 4), dtype, -3, 3)
    exact = {"infer": dtype is np.float32, "atol": 3e-7}
    modes = {
        "EXACT": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
        "TANH_APPROXIMATION": lambda v: (
            0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        ),
        "SIGMOID_APPROXIMATION": lambda v: v / (1 + math.exp(-1.702 * v)),
    }
    for mode, function in modes.items():
        check(
            "gelu",
            each(function, x),
            {"x": x},
            mode=mode,
            rtol=1e-3 if dtype is np.float16 else 1e-5,
            **exact,
        )
    for axis in (0, 1, -1):
        powers = np.exp(x.astype(float))
        expected = powers / powers.sum(axis=axis, keepdims=True)
        check("softmax", expected, {"x": x}, axis=axis, **exact)


def test_extremes_saturate_without_warnings() -> None:
    x = np.array([-1e4, -200.0, 0.0, 200.0, 1e4], np.float32)
    check("sigmoid", np.array([0, 1 / (1 + math.exp(200)), 0.5, 1, 1]), {"x": x}, atol=1e-30)
    check("softmax", np.array([0, 0, 0, 0, 1.0]), {"x": x})
    check("softplus", np.array([0, 0, math.log(2), 200, 1e4]), {"x": x}, atol=1e-7)


BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "maximum": max,
    "minimum": min,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "floor_div": lambda a, b: math.floor(a / b),
    "mod": lambda a, b: a - b * math.floor(a / b),
    "real_div": operator.truediv,
}
PAIRS = (((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 1)), ((1,), (2, 2)), ((0, 3), (3,)))


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32])
@pytest.mark.parametrize("op", BINARY)
def test_binary_broadcasts(op: str, dtype: type) -> None:
    for left, right in PAIRS:
        if dtype is np.int32:
            x, y = integers(left), integers(right, 1, 5)
        else:
            # Quarters and halves keep quotients away from the boundary of a floor.
            x = (integers(left) / 4 + 0.1).astype(dtype)
            y = (integers(right, 1, 9) / 2).astype(dtype)
        function = BINARY[op]
        if op == "real_div" and dtype is np.int32:
            function = lambda a, b: math.trunc(a / b)  # noqa: E731
        infer = dtype is np.float32 or (dtype is np.int32 and op != "real_div")
        check(
            op,
            each(function, x, y),
            {"x": x, "y": y},
            infer=infer,
            atol=5e-7 if op == "mod" and dtype is np.float32 else 2e-3 if op == "mod" else 0,
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_pow(dtype: type) -> None:
    x, y = floats((3, 4), dtype, 0.2, 2), floats((4,), dtype, -2, 2)
    check("pow", each(math.pow, x, y), {"x": x, "y": y}, infer=dtype is np.float32)


@pytest.mark.parametrize("op", ["logical_and", "logical_or", "logical_xor"])
def test_logic(op: str) -> None:
    x, y = np.array([[True], [False]]), np.array([True, False])
    function = {"and": lambda a, b: a and b, "or": lambda a, b: a or b, "xor": operator.ne}
    check(op, each(function[op.removeprefix("logical_")], x, y), {"x": x, "y": y})
    check("logical_not", np.array([[False], [True]]), {"x": x})


def test_integers_wrap_and_refuse_division_by_zero() -> None:
    largest = np.array([2**31 - 1], np.int32)
    one = np.array([1], np.int32)
    assert run_op("add", {"x": largest, "y": one}).outputs[0][0] == -(2**31)
    from asrbuild.base.errors import AsrbuildError

    for op in ("real_div", "floor_div", "mod"):
        with pytest.raises(AsrbuildError, match="division by zero"):
            run_op(op, {"x": one, "y": np.array([0], np.int32)})


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("int32", np.array([-1.7, -0.2, 0.9, 2.0], np.float32), [-1, 0, 0, 2]),
        ("bool", np.array([0.0, -0.5, 2.0], np.float32), [False, True, True]),
        ("fp16", np.array([1.0, 2049.0, 1e6], np.float32), [1.0, 2048.0, np.inf]),
        ("fp32", np.array([1, -3], np.int32), [1.0, -3.0]),
        ("fp32", np.array([True, False]), [1.0, 0.0]),
        ("int32", np.array([1.5, -2.5], np.float16), [1, -2]),
    ],
)
def test_cast(dtype: str, given: np.ndarray, expected: list[float]) -> None:
    check("cast", np.array(expected), {"x": given}, dtype=dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_cast_to_small_integers(dtype: str) -> None:
    x = np.array([0.0, 1.9, 100.2], np.float32)
    check("cast", np.array([0, 1, 100]), {"x": x}, "iOS17", dtype=dtype)


def test_select_and_identity() -> None:
    cond = np.array([[True, False, True]])
    a, b = floats((2, 3)), floats((2, 3), seed=1)
    expected = np.array([[a[r, c] if cond[0, c] else b[r, c] for c in range(3)] for r in range(2)])
    check("select", expected, {"cond": cond, "a": a, "b": b})
    check("identity", a, {"x": a})


@settings(max_examples=25)
@given(
    st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=8),
    st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=1),
)
def test_float16_rounds_once_per_op(left: list[float], right: list[float]) -> None:
    x, y = np.array(left, np.float16), np.array(right, np.float16)

    def build(v):
        from tests.coreml.executor.harness import mb

        return mb.mul(x=mb.add(x=v["x"], y=v["y"]), y=v["y"])

    (got,) = run(build, {"x": x, "y": y})
    total = (x.astype(np.float64) + y.astype(np.float64)).astype(np.float16)
    expected = (total.astype(np.float64) * y.astype(np.float64)).astype(np.float16)
    np.testing.assert_array_equal(got, expected)
