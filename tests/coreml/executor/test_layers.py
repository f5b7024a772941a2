"""Layers of products, recurrence and control flow, compared with plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from tests.coreml.executor.harness import floats, integers
from tests.coreml.executor.layers import run_layer, run_network, same
from tests.coreml.executor.plain import (
    over_batch,
)

F = np.float32


def test_products() -> None:
    x, weight, bias = floats((2, 3, 5)), floats((4, 5), seed=1), floats((4,), seed=2)
    expected = x.astype(float) @ weight.T.astype(float) + bias
    got = run_layer(
        "add_inner_product", x, W=weight, b=bias, input_channels=5, output_channels=4, has_bias=True
    )
    same(got, expected)
    got = run_layer(
        "add_batched_mat_mul",
        x,
        weight_matrix_rows=5,
        weight_matrix_columns=4,
        W=weight.T.copy(),
        bias=bias,
    )
    same(got, expected)
    y = floats((1, 4, 5), seed=3)
    got = run_layer("add_batched_mat_mul", x, y, transpose_b=True)
    same(got, x.astype(float) @ y.astype(float).swapaxes(1, 2))
    # With weights in the layer both transposes are ignored; the writer transposes the input itself.
    got = run_layer(
        "add_batched_mat_mul",
        x,
        weight_matrix_rows=5,
        weight_matrix_columns=4,
        W=weight.T.copy(),
        transpose_a=True,
        transpose_b=True,
    )
    same(got, expected - bias)
    # Vectors are a row and a column, and the result keeps both axes.
    same(run_layer("add_batched_mat_mul", x[0, 0], weight[0]), [[x[0, 0] @ weight[0]]])
    table = floats((3, 7), seed=4)
    index = np.array([[[2], [6]]])
    got = run_layer("add_embedding_nd", index, vocab_size=7, embedding_size=3, W=table, b=bias[:3])
    same(got, np.array([[table[:, 2] + bias[:3], table[:, 6] + bias[:3]]]))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_quantized_weights(bits: int) -> None:
    levels = integers((4, 10), 0, 2**bits, np.uint8)
    stream = "".join(format(level, f"0{bits}b") for level in levels.reshape(-1))
    stream += "0" * (-len(stream) % 8)
    packed = bytes(int(stream[at : at + 8], 2) for at in range(0, len(stream), 8))
    x = floats((2, 10))
    scale, bias = floats((4,), low=0.1, high=1), floats((4,), seed=1)
    shared = {
        "W": packed,
        "b": None,
        "input_channels": 10,
        "output_channels": 4,
        "has_bias": False,
        "is_quantized_weight": True,
        "nbits": bits,
    }
    got = run_layer(
        "add_inner_product",
        x,
        **shared,
        quantization_type="linear",
        quant_scale=scale,
        quant_bias=bias,
    )
    same(got, x.astype(float) @ (levels * scale[:, None] + bias[:, None]).T, atol=1e-3)
    lut = floats((2**bits,), seed=2)
    got = run_layer("add_inner_product", x, **shared, quantization_type="lut", quant_lut=lut)
    same(got, x.astype(float) @ lut[levels].T.astype(float))


def gates(hidden: int, width: int, seed: int = 0):
    w_x = [floats((hidden, width), low=-0.6, high=0.6, seed=seed + n) for n in range(4)]
    w_h = [floats((hidden, hidden), low=-0.6, high=0.6, seed=seed + 9 + n) for n in range(4)]
    bias = [floats((hidden,), seed=seed + 20 + n) for n in range(4)]
    return w_x, w_h, bias


def five(array: np.ndarray) -> np.ndarray:
    return array[..., None, None]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_lstm(whole: bool, reverse: bool) -> None:
    x, h, c = floats((4, 2, 3)), floats((2, 2)), floats((2, 2), seed=1)
    w_x, w_h, bias = gates(2, 3)
    peep = [floats((2,), seed=40 + n) for n in range(3)]
    got = run_layer(
        "add_unilstm",
        five(x),
        five(h[None]),
        five(c[None]),
        W_h=w_h,
        W_x=w_x,
        b=bias,
        hidden_size=2,
        input_size=3,
        output_all=whole,
        reverse_input=reverse,
        peep=peep,
        forget_bias=True,
        cell_clip_threshold=0.8,
        outputs=3,
    )
    shifted = [bias[0], bias[1] + 1, *bias[2:]]
    expected = over_batch(
        x,
        h,
        c,
        np.concatenate(w_x),
        np.concatenate(w_h),
        np.concatenate(shifted),
        peephole=np.concatenate(peep),
        clip=0.8,
        reverse=reverse,
    )
    # The outputs are in the order of processing, as in Apple's own tests.
    sequence = expected[0][::-1] if reverse else expected[0]
    sequence = sequence if whole else expected[1][None]
    same(got, *(five(part) for part in (sequence, expected[1][None], expected[2][None])))


def test_lstm_in_both_directions() -> None:
    x = floats((4, 2, 3))
    states = [floats((2, 2), seed=n) for n in range(4)]
    ahead, back = gates(2, 3), gates(2, 3, seed=50)
    got = run_layer(
        "add_bidirlstm",
        five(x),
        *(five(s[None]) for s in states),
        W_x=ahead[0],
        W_h=ahead[1],
        b=ahead[2],
        W_x_back=back[0],
        W_h_back=back[1],
        b_back=back[2],
        hidden_size=2,
        input_size=3,
        output_all=True,
        outputs=5,
    )
    joined = [[np.concatenate(part) for part in weights] for weights in (ahead, back)]
    f = over_batch(x, states[0], states[1], *joined[0])
    b = over_batch(x, states[2], states[3], *joined[1], reverse=True)
    sequence = np.concatenate([f[0], b[0]], axis=-1)
    ends = [part[None] for part in (f[1], f[2], b[1], b[2])]
    same(got, *(five(part) for part in (sequence, *ends)))


def test_a_loop_and_a_branch() -> None:
    from coremltools.models.neural_network import NeuralNetworkBuilder

    def add(builder) -> None:
        builder.add_copy("start", "count", "i")
        builder.add_copy("begin", "rows", "list")
        loop = builder.add_loop("loop", condition="going")
        condition = NeuralNetworkBuilder(nn_spec=loop.loop.conditionNetwork)
        condition.add_less_than("less", ["i"], "going", alpha=3.0)
        body = NeuralNetworkBuilder(nn_spec=loop.loop.bodyNetwork)
        body.add_gather("row", ["list", "i"], "row")
        body.add_elementwise("next", ["i"], "j", "ADD", alpha=1.0)
        body.add_scatter("write", ["list", "j", "row"], "written", axis=0, mode="ADD")
        body.add_copy("carry_i", "j", "i")
        body.add_copy("carry_list", "written", "list")
        builder.add_copy("result", "list", "out")
        branch = builder.add_branch("branch", "flag")
        first = NeuralNetworkBuilder(nn_spec=branch.branch.ifBranch)
        first.add_copy("yes", "rows", "chosen")
        second = NeuralNetworkBuilder(nn_spec=branch.branch.elseBranch)
        second.add_copy("no", "list", "chosen")

    rows = floats((5, 2))
    expected = rows.copy()
    for i in range(3):
        expected[i + 1] += expected[i]
    for flag in (1.0, 0.0):
        values = {"count": np.zeros(1, F), "rows": rows, "flag": np.array([flag], F)}
        got = run_network(add, values, ["out", "chosen"])
        same(got, expected, rows if flag else expected)
        np.testing.assert_array_equal(rows, floats((5, 2)))  # the caller's array is unchanged


def test_a_loop_stops_at_its_limit() -> None:
    from coremltools.models.neural_network import NeuralNetworkBuilder

    def add(builder) -> None:
        builder.add_copy("start", "x", "y")
        loop = builder.add_loop("loop", max_iterations=4)
        body = NeuralNetworkBuilder(nn_spec=loop.loop.bodyNetwork)
        body.add_elementwise("double", ["y"], "z", "MULTIPLY", alpha=2.0)
        body.add_copy("carry", "z", "y")

    same(run_network(add, {"x": np.ones(2, F)}, ["y"]), np.full(2, 16.0))


def test_an_unknown_layer_is_named_with_its_place() -> None:
    from asrbuild.coreml import protobufs as coremlproto

    custom = coremlproto.neural_network().CustomLayerParams(className="Own")
    with pytest.raises(AsrbuildError, match=r"no layer custom \(layer layer\)"):
        run_layer("add_custom", floats((1, 2, 3)), custom_proto_spec=custom)
