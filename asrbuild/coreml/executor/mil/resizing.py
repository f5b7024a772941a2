"""Ops that resize, crop and resample the two last axes: ``tensor<[*D, H, W], T>``.

Source: "image_resizing" in the MIL reference (iOS15, iOS16, iOS17). An output value is read at a
point between input values, which the sampling mode decides. Points are computed in float64.
"""

from __future__ import annotations

import math

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op


def grid(count: int, size: float, mode: str) -> Array:
    """``count`` points on an axis of ``size`` values, from 0 to ``size - 1``.

    A point may be outside by rounding, and in the mode ``UNALIGN_CORNERS`` by half a value.
    """
    steps = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        return steps * ((size - 1) / (count - 1))
    if mode == "DEFAULT":
        return steps * (size / count)
    if mode == "OFFSET_CORNERS":
        spacing = max(1.0, size - 1) / count
        return (steps + 0.5) * spacing
    if mode == "UNALIGN_CORNERS":
        return (steps + 0.5) * (size / count) - 0.5
    raise ValueError(f"{mode} is not a sampling mode")


def between(x: Array, points: Array, axis: int) -> Array:
    """Linear interpolation of ``x`` at points of an axis; points outside have the edge's value."""
    points = np.clip(points, 0, x.shape[axis] - 1)
    low = np.floor(points).astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]
    weight = (points - low).astype(np.float32).reshape(shape)
    return np.take(x, low, axis) * (np.float32(1) - weight) + np.take(x, high, axis) * weight


def resized(x: Array, height: int, width: int, mode: str) -> Array:
    """``[*D, H, W] -> [*D, height, width]``, bilinear."""
    height, width = sized.sized([height, width, *x.shape[:-2]])[:2]
    rows = between(x, grid(height, x.shape[-2], mode), -2)
    return between(rows, grid(width, x.shape[-1], mode), -1)


def nearest(x: Array, height: int, width: int) -> Array:
    """``[*D, H, W] -> [*D, height, width]``: output ``i`` is input ``floor(i * H / height)``."""
    height, width = sized.sized([height, width, *x.shape[:-2]])[:2]
    for axis, count in ((-2, height), (-1, width)):
        x = np.take(x, np.arange(count) * x.shape[axis] // count, axis)
    return x


def scaled(size: int, factor: float) -> int:
    """``floor(size * factor)`` for a factor that was stored as float32."""
    return math.floor(float(np.float32(size) * np.float32(factor)))


@mil_op("upsample_nearest_neighbor")
def upsample_nearest_neighbor(
    x: Array, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Array:
    """``[*D, H, W]`` scaled by two factors, each output the nearest input before it."""
    return nearest(
        x, scaled(x.shape[-2], scale_factor_height), scaled(x.shape[-1], scale_factor_width)
    )


@mil_op("resize_nearest_neighbor")
def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Array:
    """``[*D, H, W]`` to a size, each output the input that its centre is in."""
    sizes = sized.sized([target_size_height, target_size_width, *x.shape[:-2]])[:2]
    for axis, count in zip((-2, -1), sizes, strict=True):
        x = np.take(x, _centres(count, x.shape[axis]), axis)
    return x


def _centres(count: int, size: int) -> Array:
    """The indices of the values that contain the centres of ``count`` equal parts of an axis.

    Source: TensorFlow's ``half_pixel_centers``, which coremltools writes as these ops, and Apple's
    tests: 2 values become 3, the first and twice the second.
    """
    return (2 * np.arange(count) + 1) * size // (2 * count)


@mil_op("upsample_bilinear", arithmetic=True)
def upsample_bilinear(
    x: Array,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    """``[*D, H, W]`` scaled by two factors, bilinear; the sizes then say the exact factors."""
    centred = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and centred:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if centred else "DEFAULT"
    height = scaled(x.shape[-2], float(scale_factor_height))
    return resized(x, height, scaled(x.shape[-1], float(scale_factor_width)), mode)


@mil_op("resize_bilinear", arithmetic=True)
def resize_bilinear(
    x: Array,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Array:
    """``[*D, H, W]`` to a size, bilinear."""
    return resized(x, int(target_size_height), int(target_size_width), sampling_mode)


@mil_op("resize", arithmetic=True)
def resize(
    x: Array,
    shape: Array,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """The last ``resized_dims`` axes to the last sizes of ``shape``, where 0 keeps a size."""
    count = int(resized_dims)
    wanted = [int(size) for size in np.asarray(shape).reshape(-1)[len(shape) - count :]]
    sizes = [want or size for want, size in zip(wanted, x.shape[x.ndim - count :], strict=True)]
    sized.sized([*x.shape[: x.ndim - count], *sizes])
    for axis, size in zip(range(x.ndim - count, x.ndim), sizes, strict=True):
        if interpolation_mode == "NEAREST_NEIGHBOR":
            places = _centres(size, x.shape[axis])
            if sampling_mode != "DEFAULT":
                points = np.rint(grid(size, x.shape[axis], sampling_mode))
                places = np.clip(points, 0, x.shape[axis] - 1).astype(np.int64)
            x = np.take(x, places, axis)
        else:
            x = between(x, grid(size, x.shape[axis], sampling_mode), axis)
    return x


@mil_op("crop")
def crop(x: Array, crop_height: Array, crop_width: Array) -> Array:
    """Cuts (top, bottom) and (left, right) off the last two axes: ``[*D, H, W]``."""
    (top, bottom), (left, right) = ([int(v) for v in pair] for pair in (crop_height, crop_width))
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@mil_op("crop_resize", arithmetic=True)
def crop_resize(
    x: Array,
    roi: Array | None = None,
    boxes: Array | None = None,
    box_indices: Array | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Array:
    """Boxes cut out of ``[B, C, H, W]`` and resized, bilinear: ``roi [N, 1, 4 or 5, 1, 1]`` to
    ``[N, B or 1, C, h, w]``; ``boxes [N, 4]`` (iOS17) to ``[N, C, h, w]``."""
    height, width = int(target_height), int(target_width)
    if roi is not None:
        rows = np.asarray(roi, np.float64).reshape(len(roi), -1)
        pictures = [x if rows.shape[1] == 4 else x[int(row[0])][None] for row in rows]
        corners = rows[:, -4:]
    else:
        assert boxes is not None
        corners = np.asarray(boxes, np.float64)
        indices = range(len(corners)) if box_indices is None else box_indices
        pictures = [x[int(index)][None] for index in indices]
    sized.sized([len(corners), *x.shape[:2], height, width])
    made = []
    for picture, four in zip(pictures, corners, strict=True):
        top, left, bottom, right = _corners(four, box_coordinate_mode)
        scale = np.array([x.shape[-2] - 1, x.shape[-1] - 1]) if normalized_coordinates else (1, 1)
        down = _span(top, bottom, float(scale[0]) * float(spatial_scale), height, sampling_mode)
        across = _span(left, right, float(scale[1]) * float(spatial_scale), width, sampling_mode)
        patch = between(between(picture, down, -2), across, -1)
        inside = (_within(down, x.shape[-2])[:, None]) & _within(across, x.shape[-1])
        made.append(np.where(inside, patch, np.float32(pad_value)))
    result = np.stack(made)
    return result if roi is not None else result[:, 0]


def _corners(four: Array, mode: str) -> tuple[float, float, float, float]:
    """Top, left, bottom, right."""
    a, b, c, d = (float(value) for value in four)
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CENTER_SIZE"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def _span(start: float, end: float, scale: float, count: int, mode: str) -> Array:
    """Points on a part of an axis, distributed as ``grid`` does on a whole axis."""
    start, end = start * scale, end * scale
    if end >= start:
        return start + grid(count, end - start + 1, mode)
    return start - grid(count, start - end + 1, mode)


def _within(points: Array, size: int) -> Array:
    return (points >= -1e-6) & (points <= size - 1 + 1e-6)


@mil_op("resample", arithmetic=True)
def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """``[B, C, H, W]`` read at ``coordinates [B, H2, W2, 2]``, (x, y): ``[B, C, H2, W2]``."""
    places = np.asarray(coordinates, np.float64)
    across = _denormalized(places[..., 0], x.shape[-1], coordinates_mode, align_corners)
    down = _denormalized(places[..., 1], x.shape[-2], coordinates_mode, align_corners)
    if padding_mode != "constant":
        across = _folded(across, x.shape[-1], padding_mode, align_corners)
        down = _folded(down, x.shape[-2], padding_mode, align_corners)
    pad = None if padding_mode != "constant" else np.float32(padding_value)
    if sampling_mode == "nearest":
        return _at(x, np.rint(down), np.rint(across), pad)
    top, left = np.floor(down), np.floor(across)
    total = np.zeros((*x.shape[:2], *down.shape[1:]), np.float32)
    for row, row_weight in ((top, 1 - (down - top)), (top + 1, down - top)):
        for column, weight in ((left, 1 - (across - left)), (left + 1, across - left)):
            share = (row_weight * weight).astype(np.float32)[:, None]
            total += share * _at(x, row, column, pad)
    return total


@mil_op("affine", arithmetic=True)
def affine(
    x: Array,
    transform_matrix: Array,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """``[B, C, H, W]`` read where ``transform_matrix [B, 6]`` sends each output's place."""
    height, width = sized.sized([output_height, output_width])
    across, down = _unit(width, align_corners), _unit(height, align_corners)
    grid_x, grid_y = np.meshgrid(across, down)
    ones = np.stack([grid_x, grid_y, np.ones_like(grid_x)])
    matrix = np.asarray(transform_matrix, np.float64).reshape(-1, 2, 3)
    places = np.moveaxis(np.einsum("bij,jhw->bihw", matrix, ones), 1, -1)
    places = np.broadcast_to(places, (len(x), *places.shape[1:]))
    return resample(
        x, places, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners
    )


def _unit(count: int, align_corners: bool) -> Array:
    """``count`` positions from -1 to 1, at the centres of values or from end to end."""
    if align_corners:
        return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    return (np.arange(count) * 2 + 1) / count - 1


def _denormalized(places: Array, size: int, mode: str, align_corners: bool) -> Array:
    """Converts coordinates to indices of an axis."""
    if mode == "unnormalized":
        return places
    unit = (places + 1) / 2 if mode == "normalized_minus_one_to_one" else places
    return unit * (size - 1) if align_corners else unit * size - 0.5


def _folded(places: Array, size: int, mode: str, align_corners: bool) -> Array:
    """Maps positions outside of an axis into it, by the padding mode."""
    if mode == "border" or size == 1:
        return np.clip(places, 0, size - 1)
    # Reflect at the first and last value, or at the edges, half a value further out.
    low, span = (0.0, size - 1.0) if mode == "reflection" else (-0.5, float(size))
    rounds = np.abs(places - low)
    back = np.mod(rounds, 2 * span)
    return np.clip(np.where(back > span, 2 * span - back, back) + low, 0, size - 1)


def _at(x: Array, rows: Array, columns: Array, pad: np.float32 | None) -> Array:
    """``x[b, :, rows[b], columns[b]]``; ``pad``, if given, for positions outside."""
    height, width = x.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    row = np.clip(rows, 0, height - 1).astype(np.int64)
    column = np.clip(columns, 0, width - 1).astype(np.int64)
    batch = np.arange(len(x)).reshape(-1, 1, 1)
    values = np.moveaxis(x[batch, :, row, column], -1, 1)
    return values if pad is None else np.where(inside[:, None], values, pad)
