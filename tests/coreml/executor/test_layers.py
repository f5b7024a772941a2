"""Neural network layers against numpy and Python's ``math``, written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from tests.coreml.executor.harness import floats, integers
from tests.coreml.executor.layers import run_layer, run_network, same
from tests.coreml.executor.plain import (
    REDUCTIONS,
    each,
    over_batch,
    reduced,
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
    # With weights of its own both transposes are ignored; the writer transposes the input itself.
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


def test_shapes() -> None:
    x = floats((2, 1, 3))
    flat = x.reshape(-1).tolist()
    cases = (
        ("add_expand_dims", {"axes": [0, -1]}, (1, 2, 1, 3, 1)),
        ("add_squeeze", {"axes": [1]}, (2, 3)),
        ("add_squeeze", {"squeeze_all": True}, (2, 3)),
        ("add_reshape_static", {"output_shape": (3, -1)}, (3, 2)),
        ("add_rank_preserving_reshape", {"output_shape": [0, 3, -1]}, (2, 3, 1)),
        ("add_flatten_to_2d", {"axis": 2}, (2, 3)),
    )
    for method, given, shape in cases:
        same(run_layer(method, x, **given), np.reshape(flat, shape))
    same(run_layer("add_get_shape", x), np.array([2, 1, 3]))
    same(run_layer("add_reshape_dynamic", x, [3, -1]), np.reshape(flat, (3, 2)))
    same(run_layer("add_reshape_like", x, np.zeros((6, 1))), np.reshape(flat, (6, 1)))
    same(run_layer("add_squeeze", floats((1, 1)), squeeze_all=True), floats((1, 1))[0])


def test_order_and_joining() -> None:
    x, y = floats((2, 3)), floats((2, 3), seed=1)
    same(run_layer("add_transpose", x, axes=(1, 0)), np.array(list(zip(*x.tolist(), strict=True))))
    same(run_layer("add_concat_nd", x, y, axis=0), np.array([*x, *y]))
    woven = np.array(
        [[a for pair in zip(p, q, strict=True) for a in pair] for p, q in zip(x, y, strict=True)]
    )
    same(run_layer("add_concat_nd", x, y, axis=1, interleave=True), woven)
    same(run_layer("add_stack", x, y, axis=0), np.array([x, y]))
    columns = [x[:, n : n + 1] for n in range(3)]
    same(run_layer("add_split_nd", x, axis=1, num_splits=3, outputs=3), *columns)
    same(run_layer("add_split_nd", x, axis=1, split_sizes=[1, 2], outputs=2), x[:, :1], x[:, 1:])
    same(run_layer("add_tile", x, reps=[2, 1]), np.array([*x, *x]))
    same(run_layer("add_reverse", x, reverse_dim=[False, True]), np.array([r[::-1] for r in x]))
    same(run_layer("add_copy", x), x)
    padded = np.full((3, 6), 9.0)
    padded[1:, 2:5] = x
    same(run_layer("add_constant_pad", x, value=9.0, pad_amounts=[1, 0, 2, 1]), padded)
    for method, given in (
        ("add_broadcast_to_static", {"output_shape": (4, 2, 3)}),
        ("add_broadcast_to_dynamic", {}),
        ("add_broadcast_to_like", {}),
    ):
        second = {
            "add_broadcast_to_dynamic": [[4, 2, 3]],
            "add_broadcast_to_like": [np.zeros((4, 2, 3))],
        }.get(method, [])
        same(run_layer(method, x, *second, **given), np.array([x] * 4))


def test_makers() -> None:
    same(run_layer("add_fill_static", output_shape=(2, 3), value=1.5), np.full((2, 3), 1.5))
    same(run_layer("add_fill_dynamic", [2, 3], value=1.5), np.full((2, 3), 1.5))
    same(run_layer("add_fill_like", np.zeros((2, 3)), value=1.5), np.full((2, 3), 1.5))
    same(run_layer("add_range_static", start=1, end=8, step=3), np.array([1, 4, 7]))
    same(run_layer("add_range_dynamic", [8], start=1, step=3), np.array([1, 4, 7]))
    same(run_layer("add_range_dynamic", [8], [2], step=3), np.array([2, 5]))
    same(run_layer("add_range_dynamic", [0], [4], [-2]), np.array([4, 2]))
    value = floats((2, 3))
    same(run_layer("add_load_constant_nd", constant_value=value, shape=(2, 3)), value)
    hot = np.array([[0, 5, 0], [5, 0, 0], [0, 0, 0]])
    same(run_layer("add_one_hot", [1, 0, 7], one_hot_vector_size=3, on_value=5.0), hot)


def test_gathers_and_scatters() -> None:
    x = floats((3, 4))
    same(run_layer("add_gather", x, [2, 0], axis=0), np.array([x[2], x[0]]))
    same(run_layer("add_gather", x, [[1], [-1]], axis=1), np.array([[[r[1]], [r[3]]] for r in x]))
    same(run_layer("add_gather_nd", x, [[0, 1], [2, 3]]), np.array([x[0, 1], x[2, 3]]))
    along = np.array([[0, 1], [3, 3], [2, 0]])
    picked = np.array([[x[r, c] for c in along[r]] for r in range(3)])
    same(run_layer("add_gather_along_axis", x, along, axis=1), picked)
    updates = floats((2, 4), seed=1)
    added = x.copy()
    added[2] += updates[0]
    added[0] += updates[1]
    same(run_layer("add_scatter", x, [2, 0], updates, axis=0, mode="ADD"), added)
    same(run_layer("add_scatter_nd", x, [[2], [0]], updates, mode="ADD"), added)
    put = x.copy()
    for r, c in itertools.product(range(3), range(1)):
        put[r, along[r, c]] = -1
    same(
        run_layer(
            "add_scatter_along_axis", x, along[:, :1], -np.ones((3, 1)), axis=1, mode="UPDATE"
        ),
        put,
    )


def test_slices() -> None:
    x = floats((2, 4, 5))
    for axis, place in (("channel", 0), ("height", 1), ("width", 2)):
        expected = np.moveaxis(np.moveaxis(x, place, 0)[0:-1], 0, place)
        same(run_layer("add_slice", x, axis=axis, start_index=0, end_index=-1), expected)
    same(
        run_layer("add_slice", x, axis="width", start_index=1, end_index=5, stride=2),
        x[:, :, [1, 3]],
    )
    masks = [True, False, False]
    same(
        run_layer(
            "add_slice_static",
            x,
            begin_ids=[1, 1, 3],
            end_ids=[0, 3, 0],
            strides=[1, 1, -2],
            begin_masks=masks,
            end_masks=masks,
        ),
        x[:, 1:3, [3, 1]],
    )
    same(
        run_layer(
            "add_slice_static",
            x,
            begin_ids=[1, 0, 0],
            end_ids=[0, 4, 5],
            strides=[1, 1, 1],
            begin_masks=[False] * 3,
            end_masks=[False] * 3,
            squeeze_masks=masks,
        ),
        x[1],
    )
    none = [False] * 3
    same(
        run_layer(
            "add_slice_dynamic",
            x,
            [0, 1, 2],
            end_ids=[2, 3, 5],
            strides=[1, 1, 1],
            begin_masks=none,
            end_masks=none,
            squeeze_masks=none,
        ),
        x[:, 1:3, 2:],
    )
    same(
        run_layer(
            "add_slice_dynamic",
            x,
            [0, 1, 2],
            [1, 3, 4],
            strides=[1, 1, 1],
            begin_masks=none,
            end_masks=none,
            squeeze_masks=none,
        ),
        x[:1, 1:3, 2:4],
    )
    same(run_layer("add_slice_by_size", x, [2], axis=1, size=2), x[:, 2:4])


def test_ordering_and_bands() -> None:
    x = np.array([[3, 1, 3, 2], [0, 0, 5, -1]], F)
    order = np.array([[0, 2, 3, 1], [2, 0, 1, 3]])
    same(run_layer("add_argsort", x, axis=1, descending=True), order)
    same(run_layer("add_topk", x, k=2, axis=1, outputs=2), np.array([[3, 3], [5, 0]]), order[:, :2])
    same(run_layer("add_argmax", x, axis=1, keepdims=True), np.array([[0], [2]]))
    same(run_layer("add_argmin", x, axis=1, keepdims=False), np.array([1, 3]))
    same(run_layer("add_where_nonzero", x), np.argwhere(x))
    same(run_layer("add_cumsum", x, axis=1), np.array([[3, 4, 7, 9], [0, 0, 5, 4]]))
    square = floats((3, 4))
    for method, keep in (
        ("add_lower_triangular", lambda r, c: c - r <= 1),
        ("add_upper_triangular", lambda r, c: c - r >= 1),
    ):
        wanted = [[square[r, c] if keep(r, c) else 0 for c in range(4)] for r in range(3)]
        same(run_layer(method, square, k=1), np.array(wanted))
    band = [[square[r, c] if -1 <= c - r <= 1 else 0 for c in range(4)] for r in range(3)]
    same(run_layer("add_matrix_band_part", square, num_lower=1, num_upper=1), np.array(band))
    condition = np.array([[1.0], [0.0], [2.0]])
    chosen = np.where([[True], [False], [True]], square, -square)
    same(run_layer("add_where_broadcastable", condition, square, -square), chosen)


REDUCING_LAYERS = {
    "l1": "reduce_l1_norm",
    "l2": "reduce_l2_norm",
    "max": "reduce_max",
    "min": "reduce_min",
    "sum": "reduce_sum",
    "prod": "reduce_prod",
    "mean": "reduce_mean",
    "logsum": "reduce_log_sum",
    "sumsquare": "reduce_sum_square",
    "logsumexp": "reduce_log_sum_exp",
}


@pytest.mark.parametrize("name", REDUCING_LAYERS)
def test_reductions(name: str) -> None:
    x = floats((2, 3, 4), low=0.2, high=1.5)
    function = REDUCTIONS[REDUCING_LAYERS[name]]
    method = f"add_reduce_{name}"
    same(run_layer(method, x, axes=[0, 2], keepdims=True), reduced(function, x, (0, 2), True))
    same(run_layer(method, x, axes=[-1], keepdims=False), reduced(function, x, (-1,), False))
    whole = reduced(function, x, None, False).reshape(1)
    same(run_layer(method, x, reduce_all=True, keepdims=False), whole)


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
    # In the order of processing, as Apple's own tests have it.
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
        np.testing.assert_array_equal(rows, floats((5, 2)))  # the caller's array is as it was


def test_a_loop_stops_at_its_limit() -> None:
    from coremltools.models.neural_network import NeuralNetworkBuilder

    def add(builder) -> None:
        builder.add_copy("start", "x", "y")
        loop = builder.add_loop("loop", max_iterations=4)
        body = NeuralNetworkBuilder(nn_spec=loop.loop.bodyNetwork)
        body.add_elementwise("double", ["y"], "z", "MULTIPLY", alpha=2.0)
        body.add_copy("carry", "z", "y")

    same(run_network(add, {"x": np.ones(2, F)}, ["y"]), np.full(2, 16.0))


def test_an_unknown_layer_says_where_it_is() -> None:
    from asrbuild.coreml import protobufs as coremlproto

    custom = coremlproto.neural_network().CustomLayerParams(className="Own")
    with pytest.raises(AsrbuildError, match=r"no layer custom \(layer layer\)"):
        run_layer("add_custom", floats((1, 2, 3)), custom_proto_spec=custom)
