"""Ops and layers that resize, crop and resample, compared with recorded results of TensorFlow
and with loops over the points that the MIL reference and NeuralNetwork.proto define."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from tests.coreml.executor.harness import check, floats, run_op
from tests.coreml.executor.layers import run_layer, same

FLOATS = (np.float32, np.float16)
#: Points of an axis of 2 values by the number of outputs: the MIL reference's own examples.
POINTS = {
    "STRICT_ALIGN_CORNERS": {5: [0, 0.25, 0.5, 0.75, 1], 6: [0, 0.2, 0.4, 0.6, 0.8, 1], 1: [0]},
    "ALIGN_CORNERS": {5: [0, 0.25, 0.5, 0.75, 1], 1: [0.5]},
    "DEFAULT": {5: [0, 0.4, 0.8, 1, 1], 6: [0, 1 / 3, 2 / 3, 1, 1, 1]},
    "OFFSET_CORNERS": {5: [0.1, 0.3, 0.5, 0.7, 0.9]},
    "UNALIGN_CORNERS": {5: [0, 0.1, 0.5, 0.9, 1], 6: [0, 0, 1 / 3, 2 / 3, 1, 1]},
}
LAYER_MODES = {
    "STRICT_ALIGN_CORNERS": "STRICT_ALIGN_ENDPOINTS_MODE",
    "ALIGN_CORNERS": "ALIGN_ENDPOINTS_MODE",
    "DEFAULT": "UPSAMPLE_MODE",
    "OFFSET_CORNERS": "ROI_ALIGN_MODE",
}


def linear(x: np.ndarray, rows: Any, columns: Any) -> np.ndarray:
    """Values of the last two axes at points, one by one."""
    result = np.empty((*x.shape[:-2], len(rows), len(columns)))
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        top, left = min(int(row), x.shape[-2] - 1), min(int(column), x.shape[-1] - 1)
        down, right = min(top + 1, x.shape[-2] - 1), min(left + 1, x.shape[-1] - 1)
        a, b = row - top, column - left
        result[..., i, j] = (1 - a) * ((1 - b) * x[..., top, left] + b * x[..., top, right]) + a * (
            (1 - b) * x[..., down, left] + b * x[..., down, right]
        )
    return result


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", POINTS)
def test_resize(mode: str, dtype: type) -> None:
    x = floats((1, 2, 2, 2), dtype)
    for (height, rows), (width, columns) in itertools.product(POINTS[mode].items(), repeat=2):
        expected = linear(x.astype(float), rows, columns)
        given = {"target_size_height": height, "target_size_width": width}
        check("resize_bilinear", expected, {"x": x}, **given, sampling_mode=mode, atol=1e-6)
        shape = np.array([0, height, width], np.int32)
        check(
            "resize",
            expected,
            {"x": x},
            "iOS17",
            shape=shape,
            resized_dims=np.uint32(2),
            sampling_mode=mode,
            interpolation_mode="LINEAR",
            atol=1e-6,
        )
        if mode in LAYER_MODES and dtype is np.float32:
            got = run_layer(
                "add_resize_bilinear",
                x,
                target_height=height,
                target_width=width,
                mode=LAYER_MODES[mode],
            )
            same(got, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nearest(dtype: type) -> None:
    x = floats((1, 2, 3, 4), dtype)
    doubled = x.repeat(2, axis=2).repeat(3, axis=3)
    given = {"scale_factor_height": 2, "scale_factor_width": 3}
    check("upsample_nearest_neighbor", doubled, {"x": x}, **given)
    size = {"target_size_height": 6, "target_size_width": 12}
    check("resize_nearest_neighbor", doubled, {"x": x}, **size)
    check(
        "resize",
        doubled,
        {"x": x},
        "iOS17",
        shape=np.array([6, 12], np.int32),
        resized_dims=np.uint32(2),
        interpolation_mode="NEAREST_NEIGHBOR",
    )
    check(
        "resize",
        x[:, :, [0, 2]][..., [0, 3]],
        {"x": x},
        "iOS17",
        resized_dims=np.uint32(2),
        shape=np.array([2, 2], np.int32),
        interpolation_mode="NEAREST_NEIGHBOR",
        sampling_mode="STRICT_ALIGN_CORNERS",
    )
    # Apple's example: 2 rows to 3 are the first, then the second twice.
    check(
        "resize",
        x[:, :, [0, 1, 1]],
        {"x": x[:, :, :2]},
        "iOS17",
        resized_dims=np.uint32(2),
        shape=np.array([3, 4], np.int32),
        interpolation_mode="NEAREST_NEIGHBOR",
    )
    # Centres at 0.75 and 2.25 of 3, and at 2/3, 2 and 10/3 of 4.
    smaller = x[:, :, [0, 2]][:, :, :, [0, 2, 3]]
    check("resize_nearest_neighbor", smaller, {"x": x}, target_size_height=2, target_size_width=3)
    if dtype is np.float32:
        same(
            run_layer("add_upsample", x, scaling_factor_h=2, scaling_factor_w=3, mode="NN"), doubled
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_upsample(dtype: type) -> None:
    x = floats((1, 1, 2, 2), dtype)
    factors = {"scale_factor_height": 3.0, "scale_factor_width": 2.5}  # to 6 by 5
    modes = {True: "STRICT_ALIGN_CORNERS", False: "UNALIGN_CORNERS"}
    for align, mode in modes.items():
        expected = linear(x.astype(float), POINTS[mode][6], POINTS[mode][5])
        check("upsample_bilinear", expected, {"x": x}, **factors, align_corners=align, atol=1e-6)
        if dtype is np.float32:
            got = run_layer(
                "add_upsample",
                x,
                scaling_factor_h=3.0,
                scaling_factor_w=2.5,
                mode="BILINEAR",
                linear_upsample_mode=f"ALIGN_CORNERS_{str(align).upper()}",
            )
            same(got, expected)
    plain = linear(x.astype(float), POINTS["DEFAULT"][6], [0, 0.5, 1, 1])
    given = {"align_corners": False, "half_pixel_centers": False}
    check(
        "upsample_bilinear",
        plain,
        {"x": x},
        "iOS16",
        scale_factor_height=3,
        scale_factor_width=2,
        **given,
        atol=1e-6,
    )
    if dtype is np.float32:
        got = run_layer("add_upsample", x, scaling_factor_h=3, scaling_factor_w=2, mode="BILINEAR")
        same(got, plain)


@pytest.mark.parametrize("dtype", FLOATS)
def test_crop(dtype: type) -> None:
    x = floats((1, 2, 5, 6), dtype)
    check("crop", x[:, :, 1:3, 2:6], {"x": x}, crop_height=[1, 2], crop_width=[2, 0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_crop_resize(dtype: type) -> None:
    x = floats((2, 3, 4, 4), dtype)
    wide = x.astype(float)
    boxes = np.array([[0.5, 1, 2, 3], [2, 2, 1, 0]], dtype)
    rows, columns = ([0.5, 2], [2, 1]), ([1, 2, 3], [2, 1, 0])
    sizes = {"target_height": 2, "target_width": 3, "sampling_mode": "ALIGN_CORNERS"}
    every = np.stack([linear(wide, r, c) for r, c in zip(rows, columns, strict=True)])
    roi = boxes.reshape(2, 1, 4, 1, 1)
    check("crop_resize", every, {"x": x}, roi=roi, **sizes, atol=2e-6)
    turned = np.concatenate([[[1], [0]], boxes[:, [1, 0, 3, 2]]], 1).astype(dtype)
    one = np.stack([every[0, 1:], every[1, :1]])
    given = {"roi": turned[1:].reshape(1, 1, 5, 1, 1)}
    given["box_coordinate_mode"] = "CORNERS_WIDTH_FIRST"
    # One picture: for several, coremltools declares the batch's size instead of the reference's 1.
    check("crop_resize", one[1:], {"x": x[:1]}, **given, **sizes, atol=2e-6)
    centred = np.array([[1.25, 2, 1.5, 2]], dtype)  # of the first box
    check(
        "crop_resize",
        one[:1, 0],
        {"x": x},
        "iOS17",
        boxes=centred,
        **sizes,
        atol=2e-6,
        box_indices=np.array([1], np.int32),
        box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST",
    )
    outside = np.array([[0, 0, 1.5, 1]], dtype)  # normalized: the second row is at 4.5 of 3
    expected = linear(wide[:1], [0, 0], [0, 1.5, 3])
    expected[:, :, 1] = 7
    check(
        "crop_resize",
        expected,
        {"x": x},
        "iOS17",
        boxes=outside,
        **sizes,
        pad_value=dtype(7),
        normalized_coordinates=True,
        box_indices=np.array([0], np.int32),
        atol=2e-6,
    )
    if dtype is np.float32:
        got = run_layer(
            "add_crop_resize",
            x[None],
            roi,
            target_height=2,
            target_width=3,
            mode="ALIGN_ENDPOINTS_MODE",
        )
        same(got, every)
        got = run_layer(
            "add_crop_resize",
            x[None],
            turned.reshape(2, 1, 5, 1, 1),
            target_height=2,
            target_width=3,
            mode="ALIGN_ENDPOINTS_MODE",
            box_indices_mode="CORNERS_WIDTH_FIRST",
        )
        same(got, one)
        # Points are half a bin from the edge; each of two by two is the mean of a region's corners.
        got = run_layer(
            "add_crop_resize",
            x[None],
            np.array([0, 0, 2, 2]).reshape(1, 1, 4, 1, 1),
            target_height=2,
            target_width=2,
            mode="ROI_ALIGN_MODE",
        )
        same(got, linear(wide, [0.5, 1.5], [0.5, 1.5])[None])


def sampled(x: np.ndarray, row: float, column: float, padding: str, pad: float) -> np.ndarray:
    """One bilinear value of every channel, by a lookup of each neighbour."""

    def fold(index: int, size: int) -> int | None:
        while not 0 <= index < size:
            if padding == "constant":
                return None
            if padding == "border":
                return min(max(index, 0), size - 1)
            if padding == "reflection":
                index = -index if index < 0 else 2 * (size - 1) - index
            else:
                index = -index - 1 if index < 0 else 2 * size - 1 - index
        return index

    total = np.zeros(len(x))
    for i, j in itertools.product((0, 1), repeat=2):
        r, c = math.floor(row) + i, math.floor(column) + j
        weight = (1 - abs(row - r)) * (1 - abs(column - c))
        a, b = fold(r, x.shape[-2]), fold(c, x.shape[-1])
        total += weight * (pad if a is None or b is None else x[:, a, b])
    return total


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("padding", ["constant", "border", "reflection", "symmetric"])
def test_resample(padding: str, dtype: type) -> None:
    x = floats((1, 2, 3, 4), dtype)
    places = floats((1, 2, 3, 2), dtype, -1.5, 4.5)
    given = {
        "sampling_mode": "bilinear",
        "padding_mode": padding,
        "padding_value": dtype(0.5),
        "coordinates_mode": "unnormalized",
        "align_corners": True,
    }
    expected = np.empty((1, 2, 2, 3))
    for i, j in np.ndindex(2, 3):
        column, row = map(float, places[0, i, j])
        expected[0, :, i, j] = sampled(x[0].astype(float), row, column, padding, 0.5)
    check("resample", expected, {"x": x, "coordinates": places}, "iOS16", **given, atol=2e-6)
    corners = np.array([[[[-1, -1], [1, 1]]]], dtype)  # of the picture, by their centres
    given |= {"coordinates_mode": "normalized_minus_one_to_one", "sampling_mode": "nearest"}
    check(
        "resample",
        x[:, :, [0, 2], [0, 3]][:, :, None],
        {"x": x, "coordinates": corners},
        "iOS16",
        **given,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_affine(dtype: type) -> None:
    x = floats((1, 2, 3, 4), dtype)
    given = {
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "padding_value": dtype(0),
        "coordinates_mode": "normalized_minus_one_to_one",
        "output_height": 3,
        "output_width": 4,
    }
    mirrored = np.array([[-1, 0, 0, 0, 1, 0]], dtype)
    for align in (True, False):
        check(
            "affine",
            x[..., ::-1],
            {"x": x},
            **given,
            transform_matrix=mirrored,
            align_corners=align,
            atol=1e-6,
        )
    # Half as wide: a column outside of the picture on either side reads the padding.
    wider = np.array([[2, 0, 0, 0, 1, 0]], dtype)
    got = run_op("affine", {"x": x}, **given, transform_matrix=wider, align_corners=True).outputs[0]
    np.testing.assert_array_equal(got[..., [0, 3]], 0)
    third = x[..., 0:1].astype(float) * 0.5 + x[..., 1:2] * 0.5
    np.testing.assert_allclose(got[..., 1:2], third, rtol=2e-3 if dtype is np.float16 else 1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_boxes(dtype: type) -> None:
    """Three boxes on one spot and one apart; (x, y, width, height) of the centre."""
    boxes = np.array([[[0, 0, 2, 2], [0.25, 0, 2, 2], [1, 0, 2, 2], [9, 9, 2, 2]]], dtype)
    scores = np.array([[[0.5, 0.25], [0.75, 0.125], [0.25, 0.625], [0.0625, 0.03125]]], dtype)
    # The best is 1; 0 overlaps it by 7/9, 2 by 5/11; 3 is below the threshold.
    for by_class, overlap, chosen in ((False, 0.5, [1, 2]), (False, 0.4, [1]), (True, 0.4, [1, 2])):
        wanted = (
            np.zeros((1, 3, 4)),
            np.zeros((1, 3, 2)),
            np.full((1, 3), -1),
            np.array([len(chosen)]),
        )
        wanted[0][0, : len(chosen)], wanted[1][0, : len(chosen)] = (
            boxes[0, chosen],
            scores[0, chosen],
        )
        wanted[2][0, : len(chosen)] = chosen
        check(
            "non_maximum_suppression",
            wanted,
            {"boxes": boxes, "scores": scores},
            max_boxes=3,
            iou_threshold=dtype(overlap),
            score_threshold=dtype(0.1),
            per_class_suppression=by_class,
        )
        if dtype is np.float32:
            got = run_layer(
                "add_nms",
                boxes,
                scores,
                iou_threshold=overlap,
                score_threshold=0.1,
                max_boxes=3,
                per_class_suppression=by_class,
                outputs=4,
            )
            same(got, *wanted)
    none = run_op(
        "non_maximum_suppression",
        {"boxes": boxes, "scores": scores},
        max_boxes=1,
        iou_threshold=dtype(0.5),
        score_threshold=dtype(0.9),
    ).outputs
    assert (int(none[2][0, 0]), int(none[3][0])) == (1, 1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_values_from_distributions_of_one_value(dtype: type) -> None:
    shape = np.array([2, 3], np.int32)
    for op, certain, uncertain, value in (
        ("random_normal", {"mean": 1.5, "stddev": 0.0}, {"stddev": 1.0}, 1.5),
        ("random_uniform", {"low": 0.5, "high": 0.5}, {"low": 0.0}, 0.5),
        ("random_bernoulli", {"prob": 1.0}, {"prob": 0.5}, 1.0),
    ):
        given = {name: dtype(number) for name, number in certain.items()}
        check(op, np.full((2, 3), value), {"shape": shape}, **given, infer=False)
        with pytest.raises(AsrbuildError, match="a generator of its own"):
            run_op(op, {"shape": shape}, **{n: dtype(v) for n, v in (certain | uncertain).items()})
    x = floats((2, 1), dtype)
    check("random_categorical", np.zeros((2, 4)), {"x": x}, size=4, infer=False)
