"""Products, convolutions, pools and normalizations, compared with loops in double precision."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.coreml.executor.harness import check, floats
from tests.coreml.executor.plain import convolved, pooled, turned_round

FLOATS = (np.float32, np.float16)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (1, 1, 5), (2, 3, 5)])
def test_linear(shape: tuple[int, ...], dtype: type) -> None:
    x, weight, bias = floats(shape, dtype), floats((4, 5), dtype, seed=1), floats((4,), dtype)
    expected = np.array(
        [
            [
                sum(map(lambda a, b: float(a) * float(b), row, w)) + float(b)
                for w, b in zip(weight, bias, strict=True)
            ]
            for row in x.reshape(-1, 5)
        ]
    ).reshape(*shape[:-1], 4)
    # coremltools gives a vector's product one axis too many or few; ranks of 2 and more agree.
    infer = dtype is np.float32 and len(shape) > 1
    check("linear", expected, {"x": x}, weight=weight, bias=bias, atol=2e-6, infer=infer)
    check(
        "linear",
        expected - bias.astype(float),
        {"x": x},
        weight=weight,
        infer=infer,
        atol=2e-6,
        rtol=2e-3 if dtype is np.float16 else 1e-5,
    )


def test_float16_products_accumulate_wider() -> None:
    # 4096 products of 1 would stop at 2048 if they were summed in float16.
    x, weight = np.ones((2, 4096), np.float16), np.ones((1, 4096), np.float16)
    check("linear", np.full((2, 1), 4096.0), {"x": x}, weight=weight, infer=False)
    check("matmul", np.full((2, 1), 4096.0), {"x": x, "y": weight.T.copy()}, infer=False)


@settings(max_examples=30)
@given(
    st.booleans(), st.booleans(), st.sampled_from([(), (2,), (3, 1)]), st.sampled_from([(), (3, 2)])
)
def test_matmul(transpose_x: bool, transpose_y: bool, left, right) -> None:
    x, y = floats((*left, 3, 4)), floats((*right, 4, 2), seed=1)
    batch = np.broadcast_shapes(left, right)
    wide_x = np.broadcast_to(x, (*batch, 3, 4)).astype(float)
    wide_y = np.broadcast_to(y, (*batch, 4, 2)).astype(float)
    expected = np.zeros((*batch, 3, 2))
    for k in range(4):
        expected += wide_x[..., :, k, None] * wide_y[..., None, k, :]
    given_x = np.swapaxes(x, -1, -2).copy() if transpose_x else x
    given_y = np.swapaxes(y, -1, -2).copy() if transpose_y else y
    check(
        "matmul",
        expected,
        {"x": given_x, "y": given_y},
        transpose_x=transpose_x,
        transpose_y=transpose_y,
        atol=2e-6,
    )


def test_einsum() -> None:
    x, y = floats((2, 3, 4)), floats((4, 3, 5))
    expected = np.stack([x[:, h].astype(float) @ y[:, h].astype(float) for h in range(3)], axis=1)
    check("einsum", expected, {"values": [x, y]}, equation="chw,whr->chr", atol=2e-6)
    x4, y4 = floats((2, 3, 1, 4)), floats((2, 4, 5, 3))
    wide = np.stack([[x4[n, :, 0].astype(float) @ y4[n, :, h] for h in range(5)] for n in range(2)])
    wide = wide.transpose(0, 2, 1, 3)
    check("einsum", wide, {"values": [x4, y4]}, equation="nchw,nwhu->nchu", atol=2e-6)


def test_attention() -> None:
    q, k, v = floats((1, 2, 3, 4)), floats((1, 2, 5, 4)), floats((1, 2, 5, 6))
    mask = np.tril(np.ones((3, 5), bool), 1)
    expected = np.zeros((1, 2, 3, 6))
    for head, row in itertools.product(range(2), range(3)):
        scores = [float(q[0, head, row].astype(float) @ k[0, head, s]) / 2 for s in range(5)]
        powers = [math.exp(s) if mask[row, n] else 0.0 for n, s in enumerate(scores)]
        for s in range(5):
            expected[0, head, row] += powers[s] / sum(powers) * v[0, head, s]
    tensors = {"query": q, "key": k, "value": v}
    check(
        "scaled_dot_product_attention", expected, {**tensors, "attn_mask": mask}, "iOS18", atol=1e-6
    )
    added = np.where(mask, 0, -1e4).astype(np.float32)
    check(
        "scaled_dot_product_attention",
        expected,
        {**tensors, "attn_mask": added},
        "iOS18",
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_conv(dtype: type) -> None:
    x, bias = floats((2, 4, 6, 5), dtype), floats((6,), dtype)
    weight = floats((6, 4, 3, 2), dtype, seed=1)
    grouped = floats((6, 2, 3, 2), dtype, seed=2)
    tolerance = {"atol": 3e-6 if dtype is np.float32 else 1e-3}
    check(
        "conv",
        convolved(x, weight, bias, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
        {"x": x},
        weight=weight,
        bias=bias,
        **tolerance,
    )
    # Kernel 3 over 6 at stride 2 needs one row more, kernel 2 over 5 at stride 1 one column more.
    check(
        "conv",
        convolved(x, grouped, bias, (2, 1), ((0, 1), (0, 1)), (1, 1), 2),
        {"x": x},
        weight=grouped,
        bias=bias,
        strides=[2, 1],
        pad_type="same",
        groups=2,
        **tolerance,
    )
    check(
        "conv",
        convolved(x, weight, bias, (1, 2), ((2, 1), (0, 3)), (2, 1), 1),
        {"x": x},
        weight=weight,
        bias=bias,
        strides=[1, 2],
        dilations=[2, 1],
        pad_type="custom",
        pad=[2, 1, 0, 3],
        **tolerance,
    )
    line, kernel = floats((1, 2, 8), dtype), floats((3, 2, 4), dtype)
    check(
        "conv",
        convolved(line, kernel, bias[:3], (1,), ((2, 1),), (1,), 1),
        {"x": line},
        "iOS16",
        weight=kernel,
        bias=bias[:3],
        pad_type="same_lower",
        **tolerance,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_conv_transpose(dtype: type) -> None:
    x, weight = floats((2, 4, 3, 2), dtype), floats((4, 3, 3, 2), dtype, seed=1)
    bias, grouped = floats((6,), dtype, seed=3), floats((4, 3, 3, 2), dtype, seed=2)
    tolerance = {"atol": 3e-6 if dtype is np.float32 else 2e-3}
    whole = turned_round(x, weight, bias[:3], (1, 1), (1, 1), 1)
    check("conv_transpose", whole, {"x": x}, weight=weight, bias=bias[:3], **tolerance)
    whole = turned_round(x, grouped, bias, (2, 3), (2, 1), 2)  # (2, 6, 9, 5)
    shared = {"weight": grouped, "bias": bias, "strides": [2, 3], "dilations": [2, 1], "groups": 2}
    check(
        "conv_transpose",
        whole[:, :, 1:7, 2:5],
        {"x": x},
        **shared,
        pad_type="custom",
        pad=[1, 2, 2, 0],
        **tolerance,
    )
    # The kernels reach 5 and 2 rows over 3 and 2 positions: three rows too many, one column short.
    same = np.pad(whole, [(0, 0)] * 3 + [(0, 1)], mode="constant")
    same[..., 5:] = bias.reshape(1, -1, 1, 1)
    check("conv_transpose", same[:, :, 1:7], {"x": x}, **shared, pad_type="same", **tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
def test_pools(dtype: type) -> None:
    x = floats((2, 3, 5, 6), dtype)
    shape = {"kernel_sizes": [3, 2], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 0, 0]}
    case = (x, (3, 2), (2, 2), ((1, 1), (0, 0)))
    tolerance = {"atol": 1e-6 if dtype is np.float32 else 1e-3}
    check("max_pool", pooled(*case, np.max, np.nan), {"x": x}, **shape)
    check("avg_pool", pooled(*case, np.mean, 0.0), {"x": x}, **shape, **tolerance)
    check(
        "avg_pool",
        pooled(*case, np.mean, np.nan),
        {"x": x},
        **shape,
        **tolerance,
        exclude_padding_from_average=True,
    )
    check(
        "l2_pool",
        pooled(*case, lambda w: math.sqrt(sum(w**2)), 0.0),
        {"x": x},
        **shape,
        **tolerance,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_normalizations(dtype: type) -> None:
    x = floats((2, 3, 4, 5), dtype)
    wide = x.astype(float)
    mean, variance, gamma, beta = (floats((3,), dtype, 0.2, 1.2, seed=s) for s in range(4))
    m, v, g, b = (a.astype(float).reshape(1, 3, 1, 1) for a in (mean, variance, gamma, beta))
    tolerance = {"atol": 2e-6 if dtype is np.float32 else 3e-3, "infer": dtype is np.float32}
    epsilon = dtype(1e-3)
    e = float(epsilon)
    check(
        "batch_norm",
        g * (wide - m) / np.sqrt(v + e) + b,
        {"x": x},
        mean=mean,
        variance=variance,
        gamma=gamma,
        beta=beta,
        epsilon=epsilon,
        **tolerance,
    )
    over = wide.reshape(2, 3, 20)
    scaled = (over - over.mean(2, keepdims=True)) / np.sqrt(over.var(2, keepdims=True) + e)
    check(
        "instance_norm",
        scaled.reshape(x.shape) * g + b,
        {"x": x},
        gamma=gamma,
        beta=beta,
        epsilon=epsilon,
        **tolerance,
    )
    scale, shift = floats((4, 5), dtype, 0.5, 1.5), floats((4, 5), dtype)
    rows = wide.reshape(6, 20)
    normal = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + e)
    check(
        "layer_norm",
        normal.reshape(x.shape) * scale.astype(float) + shift.astype(float),
        {"x": x},
        axes=[2, -1],
        gamma=scale,
        beta=shift,
        epsilon=epsilon,
        atol=tolerance["atol"],
        infer=False,
    )  # coremltools divides by the product of a shape it has wrong
    lengths = np.sqrt((wide**2).reshape(2, -1).sum(1) + e).reshape(2, 1, 1, 1)
    check("l2_norm", wide / lengths, {"x": x}, epsilon=epsilon, **tolerance)
    near = np.zeros_like(wide)
    for channel in range(3):
        near[:, channel] = (wide[:, max(0, channel - 1) : channel + 2] ** 2).sum(1)
    expected = wide / (2.0 + 0.5 / 3 * near) ** 0.75
    check(
        "local_response_norm",
        expected,
        {"x": x},
        size=3,
        alpha=dtype(0.5),
        beta=dtype(0.75),
        k=dtype(2.0),
        atol=tolerance["atol"],
    )
