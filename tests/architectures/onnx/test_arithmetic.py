"""Arithmetic, comparisons and functions of one element, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.architectures.onnx.arrays import floats, integers, truths
from tests.architectures.onnx.harness import Case, case, check

SHAPES = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((3, 1), (2, 1, 4)),
    ((1,), (2, 3)),
    ((3,), ()),
]


def pairs(op: str, make) -> list[Case]:
    cases = []
    for number, (left, right) in enumerate(SHAPES):
        known = [(), (1,), (), (0,), (1,)][number]
        cases.append(case(op, make(*left), make(*right), known=known))
    return cases


def test_two_operands_broadcast_and_either_may_be_a_weight() -> None:
    cases = []
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "PRelu"):
        cases += pairs(op, floats)
    for op in ("Add", "Sub", "Mul", "Min", "Max", "Div", "Mod"):
        cases += pairs(op, integers)
    for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"):
        cases += pairs(op, integers)
    for op in ("And", "Or", "Xor", "Equal"):
        cases += pairs(op, truths)
    cases = [one for one in cases if one.op != "PRelu" or one.inputs[0].ndim >= one.inputs[1].ndim]
    check(cases)


def test_powers_take_an_exponent_of_another_type() -> None:
    base = floats(3, 4, low=0.1)
    check(
        [
            case("Pow", base, np.float32(2), known=(1,)),
            case("Pow", base, np.array(3, np.int64), known=(1,)),
            case("Pow", base, np.array([2], np.int64)),
            case("Pow", base, floats(4)),
            case("Mod", floats(5), floats(5, low=0.5), fmod=1),
            case("Mod", integers(5), integers(5), fmod=1),
        ]
    )


def test_choices_and_limits() -> None:
    condition = truths(2, 3)
    check(
        [
            case("Where", condition, floats(2, 3), floats(3)),
            case("Where", condition, floats(2, 3), np.float32(-1e4), known=(2,)),
            case("Where", condition, integers(2, 3), integers(1)),
            case("Where", condition, np.float32(1), np.float32(0), known=(1, 2)),
            case("Clip", floats(9), np.float32(-1), np.float32(1), known=(1, 2)),
            case("Clip", floats(9), None, np.float32(0.5), known=(2,)),
            case("Clip", floats(9), np.array(0.25, np.float32)),
            case("Clip", integers(9), np.array(-2, np.int64), known=(1,)),
            case("Clip", floats(9)),
            case("CumSum", floats(3, 4), np.array(1), known=(1,)),
            case("CumSum", floats(3, 4), np.array(-2), known=(1,), exclusive=1),
            case("CumSum", floats(3, 4), np.array(0), known=(1,), reverse=1),
        ]
    )


def test_functions_of_one_element() -> None:
    wide, unit = floats(4, 5, low=-3, high=3), floats(4, 5, low=-0.95, high=0.95)
    ops = [
        "Abs",
        "Ceil",
        "Cos",
        "Cosh",
        "Erf",
        "Exp",
        "Floor",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Elu",
        "Selu",
        "ThresholdedRelu",
        "Mish",
        "Neg",
        "Relu",
        "Round",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Tanh",
        "Atan",
        "Identity",
    ]
    cases = [case(op, wide) for op in ops]
    cases += [case(op, unit) for op in ("Acos", "Asin", "Atanh", "Tan")]
    cases += [case(op, np.abs(wide) + 0.1) for op in ("Log", "Sqrt", "Reciprocal")]
    cases += [case("Neg", integers(3)), case("Abs", integers(3)), case("Sign", integers(3))]
    cases += [
        case("Not", truths(2, 3)),
        case("Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)),
        case("LeakyRelu", wide, alpha=0.3),
        case("Elu", wide, alpha=0.5),
        case("Selu", wide, alpha=1.5, gamma=0.7),
        case("ThresholdedRelu", wide, alpha=0.7),
        case("HardSigmoid", wide, alpha=0.4, beta=0.3),
        case("Log", np.zeros(2, np.float32)),
        case("Erf", np.linspace(-6, 6, 101, dtype=np.float32)),
    ]
    check(cases)


def test_newer_functions() -> None:
    wide = floats(4, 5)
    check([case("Gelu", wide), case("Gelu", wide, approximate="tanh")], opset=20)


def test_casts() -> None:
    wide = floats(4, 5, low=-3, high=3)
    check(
        [
            case("Cast", wide, to=7),
            case("Cast", wide, to=6),
            case("Cast", wide, to=9),
            case("Cast", integers(3), to=1),
            case("Cast", integers(3) - integers(3), to=9),
            case("Cast", truths(4), to=1),
            case("Cast", truths(4), to=7),
            case("Cast", wide, to=11),
        ]
    )


@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_along_one_axis_or_flattened_in_older_op_sets(opset: int) -> None:
    x = floats(2, 3, 4, low=-30, high=30)
    check(
        [
            case(op, x, **attributes)
            for op in ("Softmax", "LogSoftmax")
            for attributes in ({}, {"axis": 0}, {"axis": 1}, {"axis": 2}, {"axis": -1})
        ],
        opset=opset,
    )


def test_limits_are_attributes_in_older_op_sets() -> None:
    check([case("Clip", floats(9), min=-1.0, max=0.5), case("Clip", floats(9), max=0.5)], opset=10)
