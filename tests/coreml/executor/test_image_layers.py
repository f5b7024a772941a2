"""Layers of images: convolution, pooling, padding and batch normalisation."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.coreml.executor.harness import floats
from tests.coreml.executor.layers import run_layer, same
from tests.coreml.executor.plain import convolved, pooled, turned_round


def test_convolution() -> None:
    x, bias = floats((2, 4, 6, 5)), floats((6,))
    weight, grouped = floats((6, 4, 3, 2), seed=1), floats((6, 2, 3, 2), seed=2)
    plain = {
        "kernel_channels": 4,
        "output_channels": 6,
        "height": 3,
        "width": 2,
        "stride_height": 1,
        "stride_width": 1,
        "groups": 1,
        "has_bias": True,
        "b": bias,
    }
    # The builder takes (H, W, in, out).
    w = weight.transpose(2, 3, 1, 0)
    expected = convolved(x, weight, bias, (1, 1), ((2, 1), (0, 3)), (2, 1), 1)
    got = run_layer(
        "add_convolution",
        x,
        W=w,
        border_mode="valid",
        **plain,
        dilation_factors=[2, 1],
        padding_top=2,
        padding_bottom=1,
        padding_left=0,
        padding_right=3,
    )
    same(got, expected, atol=3e-6)
    strided = plain | {"stride_height": 2, "groups": 2, "kernel_channels": 2}
    for mode, pads in (("BOTTOM_RIGHT_HEAVY", (0, 1)), ("TOP_LEFT_HEAVY", (1, 0))):
        expected = convolved(x, grouped, bias, (2, 1), (pads, pads), (1, 1), 2)
        got = run_layer(
            "add_convolution",
            x,
            W=grouped.transpose(2, 3, 1, 0),
            border_mode="same",
            same_padding_asymmetry_mode=mode,
            **strided,
        )
        same(got, expected, atol=3e-6)


def test_deconvolution() -> None:
    x, weight, bias = floats((1, 4, 3, 2)), floats((4, 3, 3, 2), seed=1), floats((6,), seed=3)
    whole = turned_round(x, weight, bias, (2, 3), (1, 1), 2)
    got = run_layer(
        "add_convolution",
        x,
        W=weight.transpose(2, 3, 0, 1),
        kernel_channels=4,
        output_channels=6,
        height=3,
        width=2,
        stride_height=2,
        stride_width=3,
        border_mode="valid",
        groups=2,
        b=bias,
        has_bias=True,
        is_deconv=True,
    )
    same(got, whole, atol=3e-6)


def test_pooling() -> None:
    x = floats((2, 3, 5, 6))
    sizes = {"height": 3, "width": 2, "stride_height": 2, "stride_width": 2}
    pads = {"padding_top": 1, "padding_bottom": 1, "padding_type": "VALID"}
    case = (x, (3, 2), (2, 2), ((1, 1), (0, 0)))
    for kind, exclude, function, fill in (
        ("MAX", False, np.max, np.nan),
        ("AVERAGE", False, np.mean, 0.0),
        ("AVERAGE", True, np.mean, np.nan),
        ("L2", False, lambda w: math.sqrt(sum(w**2)), 0.0),
    ):
        got = run_layer(
            "add_pooling", x, layer_type=kind, exclude_pad_area=exclude, **sizes, **pads
        )
        same(got, pooled(*case, function, fill))
    whole = {
        "height": 0,
        "width": 0,
        "stride_height": 1,
        "stride_width": 1,
        "is_global": True,
        "padding_type": "VALID",
    }
    same(run_layer("add_pooling", x, layer_type="AVERAGE", **whole), x.mean((2, 3), keepdims=True))
    # Five rows and six columns in windows of 3 x 2 by 3 x 3: the last windows are complete.
    case = {"height": 3, "width": 2, "stride_height": 3, "stride_width": 3}
    last = {**case, "padding_type": "INCLUDE_LAST_PIXEL"}
    got = run_layer("add_pooling", x, layer_type="MAX", **last)
    same(
        got,
        np.stack(
            [
                np.stack([x[:, :, i : i + 3, j : j + 2].max((2, 3)) for j in (0, 3)], -1)
                for i in (0, 3)
            ],
            -2,
        ),
    )
    got = run_layer("add_pooling", x, layer_type="AVERAGE", **last)
    same(
        got,
        np.stack(
            [
                np.stack([x[:, :, i : i + 3, j : j + 2].mean((2, 3)) for j in (0, 3)], -1)
                for i in (0, 3)
            ],
            -2,
        ),
    )


def test_padding_of_images() -> None:
    x = floats((1, 2, 3, 4))
    for kind in ("constant", "reflection", "replication"):
        got = run_layer(
            "add_padding", x, left=2, right=1, top=0, bottom=2, value=0.0, padding_type=kind
        )
        expected = np.empty((1, 2, 5, 7))
        for i, j in itertools.product(range(5), range(7)):
            row, column = i, j - 2
            if kind == "constant":
                inside = row < 3 and 0 <= column < 4
                expected[..., i, j] = x[..., row, column] if inside else 0
                continue
            if kind == "replication":
                row, column = min(row, 2), min(max(column, 0), 3)
            else:
                row = 4 - row if row > 2 else row
                column = abs(column) if column < 4 else 6 - column
            expected[..., i, j] = x[..., row, column]
        same(got, expected)


def test_batchnorm() -> None:
    x = floats((2, 3, 4, 5))
    gamma, beta, mean = (floats((3,), seed=s) for s in range(3))
    variance = floats((3,), low=0.2, high=2, seed=3)
    expected = np.empty_like(x)
    for c in range(3):
        spread = math.sqrt(variance[c] + 1e-3)
        expected[:, c] = gamma[c] * (x[:, c] - mean[c]) / spread + beta[c]
    given = {"channels": 3, "gamma": gamma, "beta": beta, "epsilon": 1e-3}
    same(run_layer("add_batchnorm", x, **given, mean=mean, variance=variance), expected)
    for n, c in itertools.product(range(2), range(3)):
        part = x[n, c].astype(float)
        spread = math.sqrt(part.var() + 1e-3)
        expected[n, c] = gamma[c] * (part - part.mean()) / spread + beta[c]
    alone = {"compute_mean_var": True, "instance_normalization": True}
    same(run_layer("add_batchnorm", x, **given, **alone), expected)
