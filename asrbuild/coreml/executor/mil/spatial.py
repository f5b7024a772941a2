"""Ops that move values between channels, batch and the two spatial axes: ``tensor<[n, C, H, W]>``.

Source: "tensor_transformation" in the MIL reference.
"""

from __future__ import annotations

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op


@mil_op("depth_to_space")
def depth_to_space(x: Array, block_size: int) -> Array:
    """``[n, C, H, W] -> [n, C / b^2, H * b, W * b]``; the block's place is the slow part of C."""
    n, c, h, w = x.shape
    b = int(block_size)
    blocks = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // b**2, h * b, w * b)


@mil_op("space_to_depth")
def space_to_depth(x: Array, block_size: int) -> Array:
    """``[n, C, H, W] -> [n, C * b^2, H / b, W / b]``; the block's place is the slow part of C."""
    n, c, h, w = x.shape
    b = int(block_size)
    blocks = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b**2, h // b, w // b)


@mil_op("pixel_shuffle")
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """``[n, C * f^2, H, W] -> [n, C, H * f, W * f]``; the block's place is the fast part of C."""
    n, c, h, w = x.shape
    f = int(upscale_factor)
    blocks = x.reshape(n, c // f**2, f, f, h, w).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // f**2, h * f, w * f)


@mil_op("pixel_unshuffle")
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """``[n, C, H, W] -> [n, C * f^2, H / f, W / f]``; the block's place is the fast part of C."""
    n, c, h, w = x.shape
    f = int(downscale_factor)
    blocks = x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4)
    return blocks.reshape(n, c * f**2, h // f, w // f)


@mil_op("space_to_batch")
def space_to_batch(x: Array, block_shape: Array, paddings: Array) -> Array:
    """``[n, C, H, W] -> [n * b0 * b1, C, (H + pads) / b0, (W + pads) / b1]``; block slow in n."""
    rows, columns = (int(size) for size in block_shape)
    x = sized.pad(x, [(0, 0), (0, 0), *(tuple(map(int, pair)) for pair in paddings)])
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // rows, rows, w // columns, columns).transpose(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * rows * columns, c, h // rows, w // columns)


@mil_op("batch_to_space")
def batch_to_space(x: Array, block_shape: Array, crops: Array) -> Array:
    """``[n, C, H, W] -> [n / (b0 * b1), C, H * b0 - crops, W * b1 - crops]``."""
    rows, columns = (int(size) for size in block_shape)
    n, c, h, w = x.shape
    blocks = x.reshape(rows, columns, n // (rows * columns), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    whole = blocks.reshape(n // (rows * columns), c, h * rows, w * columns)
    (top, bottom), (left, right) = ([int(v) for v in pair] for pair in crops)
    return whole[:, :, top : h * rows - bottom, left : w * columns - right]
