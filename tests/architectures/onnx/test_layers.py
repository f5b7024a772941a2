"""Convolutions, pooling, normalisations, products and recurrent layers, against onnxruntime."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.architectures.onnx.arrays import floats
from tests.architectures.onnx.harness import Case, case, check


def test_convolutions() -> None:
    conv, back = partial(case, "Conv", known=(1,)), partial(case, "ConvTranspose", known=(1,))
    plane, kernel = floats(1, 3, 7, 8), floats(5, 3, 3, 2)
    check(
        [
            conv(floats(1, 4, 9), floats(6, 4, 3), floats(6), known=(1, 2)),
            conv(floats(2, 4, 9), floats(6, 4, 3), pads=[2, 1], open={0: [2]}),
            conv(floats(1, 4, 9), floats(8, 1, 3), group=4, pads=[1, 1]),
            conv(floats(1, 4, 9), floats(6, 2, 3), group=2, strides=[2]),
            conv(floats(1, 4, 9), floats(6, 4, 3), dilations=[2]),
            conv(plane, kernel, pads=[1, 0, 2, 1], strides=[2, 1], open={0: [2]}),
            conv(plane, kernel, auto_pad="SAME_UPPER", strides=[2, 2]),
            conv(plane, kernel, auto_pad="SAME_LOWER", strides=[2, 2]),
            conv(floats(1, 3, 8), floats(5, 3, 4), auto_pad="SAME_LOWER", open={0: [2]}),
            conv(floats(1, 3, 8), floats(5, 3, 4), auto_pad="VALID"),
            conv(floats(1, 2, 4, 5, 6), floats(3, 2, 2, 2, 2)),
            back(floats(1, 4, 5), floats(4, 3, 3), floats(3), known=(1, 2)),
            back(floats(1, 4, 5), floats(4, 3, 3), strides=[2], pads=[1, 1], output_padding=[1]),
            back(floats(1, 4, 5), floats(4, 3, 3), strides=[3], output_padding=[2]),
            back(floats(1, 4, 5, 4), floats(4, 1, 3, 2), group=4, strides=[2, 1]),
        ]
    )


def test_pooling() -> None:
    x, y = floats(1, 3, 10), floats(1, 3, 7, 9)
    check(
        [
            case("MaxPool", x, kernel_shape=[3], strides=[2], open={0: [2]}),
            case("MaxPool", x, kernel_shape=[3], strides=[2], pads=[1, 1]),
            case("MaxPool", y, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
            case("MaxPool", y, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
            case("AveragePool", x, kernel_shape=[3], strides=[2], pads=[1, 1]),
            case("AveragePool", x, kernel_shape=[3], pads=[1, 1], count_include_pad=1),
            case("AveragePool", y, kernel_shape=[2, 2], strides=[2, 1]),
            case("GlobalAveragePool", x, open={0: [2]}),
            case("GlobalMaxPool", y),
        ]
    )


def test_normalisations() -> None:
    positive = np.abs(floats(4)) + 0.5
    batch = floats(4), floats(4), floats(4), positive
    check(
        [
            case("BatchNormalization", floats(2, 4, 5), *batch, known=(1, 2, 3, 4), open={0: [2]}),
            case(
                "BatchNormalization", floats(2, 4, 5, 3), *batch, known=(1, 2, 3, 4), epsilon=1e-3
            ),
            case("BatchNormalization", floats(3, 4), *batch, known=(1, 2, 3, 4)),
            case("LayerNormalization", floats(2, 3, 4), floats(4), floats(4), known=(1, 2)),
            case("LayerNormalization", floats(2, 3, 4), floats(3, 4), known=(1,), axis=1),
            case("LayerNormalization", floats(2, 3, 4), floats(4), floats(4), open={0: [1]}),
            case("InstanceNormalization", floats(2, 4, 5), floats(4), floats(4), known=(1, 2)),
            case("InstanceNormalization", floats(2, 4, 5, 3), floats(4), floats(4), known=(1, 2)),
            case("LpNormalization", floats(2, 4), axis=1),
            case("LpNormalization", floats(2, 4), axis=0, p=1),
            case(
                "GroupNormalization",
                floats(2, 4, 5),
                floats(2),
                floats(2),
                known=(1, 2),
                num_groups=2,
                open={0: [2]},
            ),
        ]
    )


def test_newer_normalisations() -> None:
    group = case(
        "GroupNormalization", floats(2, 4, 5, 3), floats(4), floats(4), known=(1, 2), num_groups=2
    )
    check([group], opset=21)
    rms = case("RMSNormalization", floats(2, 3, 4), floats(4), known=(1,), axis=-1)
    check([rms], opset=23)


def test_products() -> None:
    check(
        [
            case("MatMul", floats(3, 4), floats(4, 5), known=(1,)),
            case("MatMul", floats(2, 3, 4), floats(4, 5), known=(1,), open={0: [1]}),
            case("MatMul", floats(2, 2, 3, 4), floats(4, 5), known=(1,)),
            case("MatMul", floats(2, 3, 4), floats(2, 4, 5)),
            case("MatMul", floats(3, 4), floats(2, 4, 5), known=(0,)),
            case("MatMul", floats(4), floats(4, 5)),
            case("MatMul", floats(2, 3, 4), floats(4)),
            case("MatMul", floats(4), floats(4)),
            case("Gemm", floats(3, 4), floats(4, 5), floats(5), known=(1, 2)),
            case(
                "Gemm",
                floats(3, 4),
                floats(5, 4),
                floats(1, 5),
                known=(1, 2),
                transB=1,
                alpha=0.5,
                beta=2.0,
            ),
            case("Gemm", floats(4, 3), floats(4, 5), known=(1,), transA=1),
            case("Gemm", floats(4, 3), floats(5, 4), floats(3, 5), transA=1, transB=1, alpha=0.5),
            case("Gemm", floats(3, 4), floats(4, 5), floats(3, 1), known=(1,), beta=0.5),
            case("Einsum", floats(2, 3, 4), floats(2, 5, 4), equation="bij,bkj->bik"),
            case("Einsum", floats(2, 3, 4), floats(4, 5), equation="bij,jk->bik", known=(1,)),
            case("Einsum", floats(2, 3, 2, 4), floats(2, 5, 2, 4), equation="bqhd,bkhd->bhqk"),
        ]
    )


def recurrent(
    op: str, gates: int, direction: str, open_steps: bool, states: bool, **more: object
) -> Case:
    count, steps, batch, width, size = 1 + (direction == "bidirectional"), 6, 2, 3, 4
    first = floats(count, batch, size) if states else None
    cell = [floats(count, batch, size)] if op == "LSTM" and states else []
    bias = floats(count, 2 * gates * size)
    given = [
        floats(steps, batch, width),
        floats(count, gates * size, width),
        floats(count, gates * size, size),
        bias,
        None,
        first,
        *cell,
    ]
    if more.get("layout"):
        given[0] = given[0].swapaxes(0, 1).copy()
        given[5:] = [None if one is None else one.swapaxes(0, 1).copy() for one in given[5:]]
    return case(
        op,
        *given,
        outputs=3 if op == "LSTM" else 2,
        known=(1, 2, 3),
        hidden_size=size,
        direction=direction,
        open={0: [0]} if open_steps else {},
        **more,
    )


DIRECTIONS = ("forward", "reverse", "bidirectional")


def test_lstm_and_rnn_in_every_direction() -> None:
    cases = [
        recurrent("LSTM", 4, direction, open_steps, states)
        for direction in DIRECTIONS
        for open_steps in (False, True)
        for states in (False, True)
    ]
    cases += [recurrent("RNN", 1, direction, True, True) for direction in DIRECTIONS]
    cases += [recurrent("RNN", 1, "forward", False, False, activations=["Relu"])]
    check(cases)


def test_gru_in_every_direction_and_form() -> None:
    cases = [
        recurrent("GRU", 3, direction, True, states, linear_before_reset=after)
        for direction in DIRECTIONS
        for states in (False, True)
        for after in (0, 1)
    ]
    check(cases, target="iOS18")
    check(
        [recurrent("GRU", 3, "bidirectional", False, True, linear_before_reset=0)], target="iOS15"
    )


@pytest.mark.parametrize("target", ["iOS15", "iOS16"])
def test_older_targets_have_forms_of_the_layers_too(target: str) -> None:
    check(
        [
            case("Conv", floats(1, 4, 9), floats(6, 4, 3), floats(6), known=(1, 2), pads=[1, 1]),
            case("MatMul", floats(2, 3, 4), floats(4, 5), known=(1,)),
            case("LayerNormalization", floats(2, 3, 4), floats(4), floats(4), known=(1, 2)),
            case("Gather", floats(4, 5), np.array([-1, 2]), known=(1,)),
            case("Reshape", np.array([[True, False]]), np.array([2, 1]), known=(1,)),
            recurrent("LSTM", 4, "forward", True, True),
        ],
        target=target,
    )
