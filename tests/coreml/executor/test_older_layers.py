"""Layers of systems before iOS 13, and layers of random values, volumes and loops with a break,
compared with plain numpy. The channel is the third axis from the end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from tests.coreml.executor.harness import floats, integers
from tests.coreml.executor.layers import run_layer, run_network, same
from tests.coreml.executor.plain import processed, volume


def test_joining_and_cutting() -> None:
    a, b = floats((2, 3, 4, 5)), floats((2, 2, 4, 5), seed=1)
    joined = np.concatenate([a, b], axis=1)
    same(run_layer("add_elementwise", a, b, mode="CONCAT"), joined)
    s, t = floats((1, 1, 2, 1, 1)), floats((3, 1, 2, 1, 1), seed=1)
    same(run_layer("add_elementwise", s, t, mode="SEQUENCE_CONCAT"), np.concatenate([s, t]))
    got = run_layer("add_split", floats((1, 6, 2, 2)), outputs=3)
    same(got, *np.split(floats((1, 6, 2, 2)), 3, axis=1))
    same(run_layer("add_sequence_repeat", t, nrep=2), np.concatenate([t, t]))


def test_shapes() -> None:
    x = floats((2, 3, 4, 5))
    same(run_layer("add_flatten", x, mode=0), x.reshape(2, 60, 1, 1))
    last = x.transpose(0, 2, 3, 1).reshape(2, 60, 1, 1)
    same(run_layer("add_flatten", x, mode=1), last)
    x = floats((2, 1, 3, 4, 5))
    same(run_layer("add_reshape", x, target_shape=(5, 4, 3), mode=0), x.reshape(2, 1, 5, 4, 3))
    rows = x.transpose(0, 1, 3, 4, 2).reshape(2, 1, 4, 3, 5)  # H, W, C
    got = run_layer("add_reshape", x, target_shape=(5, 4, 3), mode=1)
    same(got, rows.transpose(0, 1, 4, 2, 3))
    got = run_layer("add_reshape", x, target_shape=(4, 5, 6, 1), mode=0)
    same(got, x.reshape(4, 1, 5, 6, 1))
    same(run_layer("add_permute", x, dim=(3, 1, 2, 0)), x.transpose(4, 1, 2, 3, 0))
    constant = floats((2, 3, 4))
    same(
        run_layer("add_load_constant", constant_value=constant, shape=(2, 3, 4)),
        constant[None, None],
    )


def test_reductions() -> None:
    x = floats((2, 3, 4, 5), low=0.2, high=2)
    axes = {"CHW": (1, 2, 3), "HW": (2, 3), "C": (1,), "H": (2,), "W": (3,)}
    functions: dict[str, Any] = {
        "sum": np.sum,
        "avg": np.mean,
        "prod": np.prod,
        "max": np.max,
        "min": np.min,
        "sumsquare": lambda v, **k: np.sum(v * v, **k),
        "l1": np.sum,
        "l2": lambda v, **k: np.sqrt(np.sum(v * v, **k)),
        "logsum": lambda v, **k: np.sum(np.log(v + 1e-3), **k),
    }
    for (axis, places), (mode, function) in itertools.product(axes.items(), functions.items()):
        expected = function(x.astype(float), axis=places, keepdims=True)
        got = run_layer("add_reduce", x, axis=axis, mode=mode, epsilon=1e-3)
        np.testing.assert_allclose(got[0], expected, rtol=2e-5)
    got = run_layer("add_reduce", x, axis="H", mode="argmax", epsilon=0.0)
    same(got, x.argmax(2)[:, :, None])


def test_products() -> None:
    x, y = floats((2, 3, 1, 1)), floats((2, 3, 1, 1), seed=1)
    dots = np.array([x[n, :, 0, 0].astype(float) @ y[n, :, 0, 0] for n in range(2)])
    same(run_layer("add_elementwise", x, y, mode="DOT"), dots.reshape(2, 1, 1, 1))
    lengths = [math.dist(v[n, :, 0, 0], [0] * 3) for v in (x, y) for n in range(2)]
    cosines = dots / np.array([lengths[0] * lengths[2], lengths[1] * lengths[3]])
    same(run_layer("add_elementwise", x, y, mode="COS"), cosines.reshape(2, 1, 1, 1))
    table, bias = floats((3, 7), seed=4), floats((3,), seed=5)
    index = np.array([2, 6]).reshape(2, 1, 1, 1)
    given = {"W": table, "b": bias, "input_dim": 7, "output_channels": 3, "has_bias": True}
    expected = (table[:, [2, 6]].T + bias).reshape(2, 3, 1, 1)
    same(run_layer("add_embedding", index, **given), expected)
    x, weight = floats((2, 2, 3, 2)), floats((4, 12), seed=1)
    given = {"input_channels": 12, "output_channels": 4, "has_bias": False, "b": None}
    got = run_layer("add_inner_product", x, W=weight, **given)
    same(got, (x.reshape(2, 12).astype(float) @ weight.T).reshape(2, 4, 1, 1))


def test_normalizations() -> None:
    x = floats((2, 3, 4, 5))
    for across, variance in itertools.product((False, True), repeat=2):
        expected = np.empty(x.shape)
        for n, c in itertools.product(range(2), range(3)):
            part = (x[n] if across else x[n, c]).astype(float)
            spread = math.sqrt(part.var() + 1e-3) if variance else 1.0
            expected[n, c] = (x[n, c] - part.mean()) / spread
        given = {"across_channels": across, "normalize_variance": variance, "epsilon": 1e-3}
        same(run_layer("add_mvn", x, **given), expected)
    sums = (x.astype(float) ** 2).sum((1, 2, 3), keepdims=True)
    same(run_layer("add_l2_normalize", x, epsilon=1e-2), x / np.sqrt(sums + 1e-2))
    expected = np.empty(x.shape)
    for c in range(3):
        near = x[:, max(0, c - 1) : c + 2].astype(float)
        expected[:, c] = x[:, c] / (1.5 + 0.3 / 3 * (near**2).sum(1)) ** 0.75
    given = {"alpha": 0.3, "beta": 0.75, "local_size": 3, "k": 1.5}
    same(run_layer("add_lrn", x, **given), expected)
    gamma, beta = floats((4, 5), seed=1), floats((4, 5), seed=2)
    part = x.astype(float).reshape(6, 20)
    spread = np.sqrt(part.var(1, keepdims=True) + 1e-3)
    expected = ((part - part.mean(1, keepdims=True)) / spread).reshape(x.shape) * gamma + beta
    given = {"normalized_shape": (4, 5), "gamma": gamma, "beta": beta, "eps": 1e-3}
    same(run_layer("add_layer_normalization", x, **given), expected)


def test_statistics_of_a_whole_batch() -> None:
    """The format has them, although the builder refuses to write them."""
    x, gamma, beta = floats((2, 3, 4, 5)), floats((3,), seed=1), floats((3,), seed=2)

    def add(builder: Any) -> None:
        builder.add_batchnorm("layer", 3, gamma, beta, None, None, "x", "y", True, True, 1e-3)
        builder.spec.neuralNetwork.layers[0].batchnorm.instanceNormalization = False

    wide = x.astype(float)
    mean, variance = (f(wide, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
    expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma.reshape(1, 3, 1, 1)
    same(run_network(add, {"x": x}, ["y"]), expected + beta.reshape(1, 3, 1, 1))


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 4, 5), (3, 4, 5)])
def test_scale_and_bias(shape: tuple[int, ...]) -> None:
    x, factor, offset = floats((2, 3, 4, 5)), floats(shape, seed=1), floats(shape, seed=2)
    wide = [v.reshape(-1, 1, 1) if len(shape) == 1 else v for v in (factor, offset)]
    got = run_layer(
        "add_scale", x, W=factor, b=offset, has_bias=True, shape_scale=shape, shape_bias=shape
    )
    same(got, x * wide[0].astype(float) + wide[1])
    same(run_layer("add_bias", x, b=offset, shape_bias=shape), x + wide[1].astype(float))


def test_blocks_and_windows() -> None:
    # The examples of ReorganizeDataLayerParams in NeuralNetwork.proto.
    x = np.arange(1, 17).reshape(1, 8, 1, 2)
    deep = [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]
    shuffled = [[[1, 3, 2, 4], [5, 7, 6, 8]], [[9, 11, 10, 12], [13, 15, 14, 16]]]
    same(run_layer("add_reorganize_data", x, mode="DEPTH_TO_SPACE", block_size=2), [deep])
    same(run_layer("add_reorganize_data", [deep], mode="SPACE_TO_DEPTH", block_size=2), x)
    same(run_layer("add_reorganize_data", x, mode="PIXEL_SHUFFLE", block_size=2), [shuffled])
    x = floats((2, 7, 3))
    got = run_layer("add_sliding_windows", x, axis=1, window_size=3, step=2)
    same(got, np.stack([x[:, start : start + 3] for start in (0, 2, 4)], 1))
    # The examples of ReverseSeqLayerParams there.
    got = run_layer(
        "add_reverse_sequence",
        np.arange(8).reshape(2, 4),
        np.array([3, 0]),
        batch_axis=0,
        seq_axis=1,
    )
    same(got, [[2, 1, 0, 3], [4, 5, 6, 7]])
    x = floats((3, 2))
    got = run_layer(
        "add_constant_pad",
        x,
        pad_amounts=[0, 5, 4, 0],
        value=0.5,
        pad_to_given_output_size_mode=True,
    )
    same(got, np.pad(x, ((0, 2), (2, 0)), constant_values=0.5))
    x = floats((1, 2, 5, 6))
    got = run_layer("add_crop", x, left=1, right=2, top=0, bottom=3, offset=[0, 0])
    same(got, x[:, :, :2, 1:4])
    got = run_layer(
        "add_crop", x, floats((1, 2, 2, 3)), left=0, right=0, top=0, bottom=0, offset=[1, 2]
    )
    same(got, x[:, :, 1:3, 2:5])


def test_volumes() -> None:
    x, weight = floats((1, 2, 4, 5, 6)), floats((3, 2, 2, 3, 2), seed=1)
    bias = floats((3,), seed=2)
    sizes = {
        "depth": 2,
        "height": 3,
        "width": 2,
        "stride_depth": 2,
        "stride_height": 1,
        "stride_width": 2,
        "input_channels": 2,
        "output_channels": 3,
        "groups": 1,
    }
    given = {"W": weight, "b": bias, "has_bias": True, "padding_mode": "valid", **sizes}
    expected = volume(x, weight, (2, 1, 2)) + bias.reshape(3, 1, 1, 1)
    same(run_layer("add_convolution3d", x, **given), expected)
    pads = {"padding_front": 1, "padding_left": 1, "padding_bottom": 2, "padding_mode": "custom"}
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2), (1, 0)))
    expected = volume(padded, weight, (2, 1, 2)) + bias.reshape(3, 1, 1, 1)
    same(run_layer("add_convolution3d", x, **given | pads), expected)
    # The transposed convolution is its adjoint: both sums of products are equal.
    y = floats((1, 3, 2, 3, 3), seed=3)
    turned = run_layer(
        "add_convolution3d",
        y,
        **given
        | {
            "W": weight.transpose(1, 0, 2, 3, 4),
            "b": None,
            "has_bias": False,
            "is_deconv": True,
            "input_channels": 3,
            "output_channels": 2,
        },
    )[0]
    assert turned.shape == x.shape
    ahead = np.sum(volume(x, weight, (2, 1, 2)) * y)
    np.testing.assert_allclose(np.sum(turned.astype(float) * x), ahead, rtol=1e-5)
    pool = {
        "kernel_depth": 2,
        "kernel_height": 2,
        "kernel_width": 3,
        "stride_depth": 2,
        "stride_height": 1,
        "stride_width": 3,
        "padding_mode": "valid",
    }
    for kind, function in (("MAX", np.max), ("AVERAGE", np.mean)):
        expected = np.empty((1, 2, 2, 4, 2))
        for place in np.ndindex(2, 4, 2):
            d, h, w = (p * s for p, s in zip(place, (2, 1, 3), strict=True))
            window = x[:, :, d : d + 2, h : h + 2, w : w + 3]
            expected[(slice(None), slice(None), *place)] = function(window, axis=(2, 3, 4))
        same(run_layer("add_pooling3d", x, pooling_type=kind, **pool), expected)
        whole = function(x.astype(float), axis=(2, 3, 4), keepdims=True)
        same(run_layer("add_global_pooling3d", x, pooling_type=kind), whole)


def five(x: np.ndarray) -> np.ndarray:
    return x[..., None, None]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_recurrent(direction: str, whole: bool) -> None:
    x, h = floats((4, 2, 3)), floats((2, 2))
    w_x, w_h, b = (
        [floats(s, low=-0.6, high=0.6, seed=10 * k + n) for n in range(3)]
        for k, s in enumerate(((2, 3), (2, 2), (2,)), 1)
    )
    sizes = {
        "hidden_size": 2,
        "input_size": 3,
        "output_all": whole,
        "outputs": 2,
        "reverse_input": direction == "reverse",
    }

    def sequence(step: Any) -> list[np.ndarray]:
        state, outputs = h.astype(float), []
        for row in processed(x, direction):
            state = step(row.astype(float), state)
            outputs.append(state)
        return [five(np.array(outputs) if whole else state[None]), five(state[None])]

    def rnn(row: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.maximum(row @ w_x[0].T + state @ w_h[0].T + b[0], 0)

    got = run_layer(
        "add_simple_rnn",
        five(x),
        five(h[None]),
        W_x=w_x[0],
        W_h=w_h[0],
        b=b[0],
        activation="RELU",
        **sizes,
    )
    same(got, *sequence(rnn))

    def gru(row: np.ndarray, state: np.ndarray) -> np.ndarray:
        update, reset = (
            1 / (1 + np.exp(-(row @ w_x[n].T + state @ w_h[n].T + b[n]))) for n in (0, 1)
        )
        new = np.tanh(row @ w_x[2].T + (reset * state) @ w_h[2].T + b[2])
        return (1 - update) * new + update * state

    got = run_layer(
        "add_gru",
        five(x),
        five(h[None]),
        W_x=w_x,
        W_h=w_h,
        b=b,
        activation="TANH",
        inner_activation="SIGMOID",
        **sizes,
    )
    same(got, *sequence(gru))


def test_a_gate_without_limit_is_clipped_at_50() -> None:
    x, h = np.full((1, 1, 1), 80.0), np.zeros((1, 1, 1))
    given = {
        "W_x": np.ones((1, 1)),
        "W_h": np.ones((1, 1)),
        "b": None,
        "hidden_size": 1,
        "input_size": 1,
        "activation": "LINEAR",
        "outputs": 2,
    }
    got = run_layer("add_simple_rnn", five(x), five(h), **given)
    same(got, np.full((1, 1, 1, 1, 1), 50), np.full((1, 1, 1, 1, 1), 50))


def test_activations_whose_parameters_the_writer_leaves_out() -> None:
    x, h = floats((1, 1, 1)), np.zeros((1, 1, 1))
    value = float(x[0, 0, 0])
    expected = {
        "SIGMOID_HARD": min(max(0.2 * value + 0.5, 0), 1),
        "LINEAR": value,
        "SCALED_TANH": math.tanh(value),
    }
    for name, want in expected.items():
        got = run_layer(
            "add_simple_rnn",
            five(x),
            five(h),
            W_x=np.ones((1, 1)),
            b=None,
            W_h=np.ones((1, 1)),
            hidden_size=1,
            input_size=1,
            activation=name,
            outputs=2,
        )
        same(got, np.full((1, 1, 1, 1, 1), want), np.full((1, 1, 1, 1, 1), want))


RANDOM = {
    "normal": ({"mean": 1.5, "stddev": 0.0}, {"mean": 0.0, "stddev": 1.0}, 1.5),
    "uniform": ({"minval": 0.5, "maxval": 0.5}, {"minval": 0.0, "maxval": 1.0}, 0.5),
    "bernoulli": ({"prob": 1.0}, {"prob": 0.5}, 1.0),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_random_values_from_distributions_of_one_value(kind: str) -> None:
    certain, uncertain, value = RANDOM[kind]
    shape, like = np.array([2.0, 3.0]), floats((2, 3))
    expected = np.full((2, 3), value)
    for form, arrays, more in (
        ("like", [like], {}),
        ("dynamic", [shape], {}),
        ("static", [], {"output_shape": (2, 3)}),
    ):
        name = f"add_random_{kind}_{form}"
        same(run_layer(name, *arrays, seed=1, **certain, **more), expected)
        with pytest.raises(AsrbuildError, match="a generator of its own"):
            run_layer(name, *arrays, seed=1, **uncertain, **more)
    got = run_layer("add_categorical_distribution", floats((2, 1)), num_samples=3)
    same(got, np.zeros((2, 3)))
    with pytest.raises(AsrbuildError, match="draws categories"):
        run_layer("add_categorical_distribution", floats((2, 4)), num_samples=3)


@pytest.mark.parametrize("leaving", ["break", "continue"])
def test_a_loop_with_a_break_and_a_continue(leaving: str) -> None:
    """It counts to ten; above 3 the round ends, or the loop."""
    from coremltools.models.neural_network import NeuralNetworkBuilder

    def add(builder: Any) -> None:
        builder.add_copy("start", "x", "sum")
        layer = builder.add_loop("loop", input_name="rounds")
        body = NeuralNetworkBuilder(nn_spec=layer.loop.bodyNetwork)
        body.add_elementwise("add", ["sum"], "sum", "ADD", alpha=1.0)
        body.add_greater_than("above", ["sum"], "above", alpha=3.5)
        branch = body.add_branch("if", "above")
        inner = NeuralNetworkBuilder(nn_spec=branch.branch.ifBranch)
        getattr(inner, f"add_loop_{leaving}")("leave")
        body.add_elementwise("more", ["sum"], "sum", "ADD", alpha=0.25)
        builder.add_copy("end", "sum", "y")

    arrays = {"x": np.zeros(1), "rounds": np.full(1, 10.0)}
    # 1.25, 2.5, 3.75 after three rounds; 4.75 ends its round before the quarter is added.
    expected = 4.75 if leaving == "break" else 3.75 + 7
    same(run_network(add, arrays, ["y"]), [expected])


def test_indices_of_several_axes_scatter() -> None:
    data, updates = floats((4, 5)), floats((4, 2, 3), seed=1)
    indices = integers((2, 3), 0, 5)
    expected = data.astype(float)
    for place in np.ndindex(2, 3):
        expected[:, indices[place]] += updates[(slice(None), *place)]
    got = run_layer("add_scatter", data, indices, updates, axis=1, mode="ADD")
    same(got, expected)
    parts = run_layer("add_split_nd", floats((5, 2)), axis=0, num_splits=2, outputs=2)
    same(parts, floats((5, 2))[:3], floats((5, 2))[3:])
