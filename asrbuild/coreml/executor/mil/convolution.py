"""``conv``, ``conv_transpose``, ``max_pool``, ``avg_pool``, ``l2_pool``: 1 to 3 spatial axes.

Source: "conv" and "pool" in the MIL reference. Sums accumulate in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op


def spatial_pads(
    sizes: tuple[int, ...],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pad_type: str,
    pad: Array | None,
) -> list[tuple[int, int]]:
    """Padding (before, after) of each spatial axis.

    ``same`` puts the odd one after, ``same_lower`` before.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        assert pad is not None
        given = np.asarray(pad, np.int64).reshape(-1).tolist()
        return list(zip(given[::2], given[1::2], strict=True))
    pairs = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        less, more = total // 2, total - total // 2
        pairs.append((more, less) if pad_type == "same_lower" else (less, more))
    return pairs


def windows(x: Array, kernel: list[int], strides: list[int], dilations: list[int]) -> Array:
    """``x (n, C, *D)`` as ``(n, C, *out, *kernel)``, a view.

    Raises:
        ValueError: a window is larger than ``x``.
    """
    spatial = x.strides[2:]
    out = []
    for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        if size < (reach := (width - 1) * dilation + 1):
            raise ValueError(f"a window of {reach} is larger than the axis of {size}")
        out.append((size - reach) // stride + 1)
    moves = [move * stride for move, stride in zip(spatial, strides, strict=True)]
    inside = [move * dilation for move, dilation in zip(spatial, dilations, strict=True)]
    return np.lib.stride_tricks.as_strided(
        x, (*x.shape[:2], *out, *kernel), (*x.strides[:2], *moves, *inside), writeable=False
    )


@mil_op("conv", arithmetic=True)
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """``tensor<[n, C_in, *D], T>, <[C_out, C_in / groups, *K], T>, <[C_out], T>`` to
    ``tensor<[n, C_out, *D_out], T>``."""
    kernel = list(weight.shape[2:])
    steps, spread = _whole(strides, len(kernel)), _whole(dilations, len(kernel))
    pairs = spatial_pads(x.shape[2:], kernel, steps, spread, pad_type, pad)
    rank, groups, batch = len(kernel), int(groups), x.shape[0]
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    patches = windows(sized.pad(x, [(0, 0), (0, 0), *pairs]), kernel, steps, spread)
    out = patches.shape[2 : 2 + rank]
    # (groups, C_out / groups, C_in / groups * K) times (n, groups, the same, out).
    order = [0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)]
    columns = patches.transpose(order).reshape(batch, groups, rows.shape[2], -1)
    # For one channel this is a view of overlapping windows, which BLAS cannot read.
    product = rows @ np.ascontiguousarray(columns)
    result: Array = product.reshape(batch, weight.shape[0], *out)
    if bias is not None:
        result += bias.reshape(1, -1, *[1] * rank)
    return result


@mil_op("conv_transpose", arithmetic=True)
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """``tensor<[n, C_in, *D], T>, <[C_in, C_out / groups, *K], T>, <[C_out], T>`` to
    ``tensor<[n, C_out, *D_out], T>``: what ``conv`` would have made ``x`` of, turned round."""
    kernel, sizes, rank = weight.shape[2:], x.shape[2:], weight.ndim - 2
    steps, spread = _whole(strides, rank), _whole(dilations, rank)
    whole = [
        (size - 1) * step + (width - 1) * dilation + 1
        for size, step, width, dilation in zip(sizes, steps, kernel, spread, strict=True)
    ]
    batch, per_group = x.shape[0], weight.shape[1]
    rows = x.reshape(batch, int(groups), -1, int(np.prod(sizes))).astype(np.float32, copy=False)
    columns = weight.reshape(int(groups), -1, per_group, *kernel)
    total = np.zeros((batch, int(groups), per_group, *whole), np.float32)
    whole_axes: tuple[Any, ...] = (slice(None),) * 3
    for place in np.ndindex(*kernel):
        # (groups, C_out / groups, C_in / groups) times (n, groups, C_in / groups, D).
        part = columns[(*whole_axes, *place)].swapaxes(1, 2) @ rows
        where = tuple(
            slice(at * dilation, at * dilation + (size - 1) * step + 1, step)
            for at, dilation, size, step in zip(place, spread, sizes, steps, strict=True)
        )
        total[(*whole_axes, *where)] += part.reshape(batch, int(groups), per_group, *sizes)
    result = total.reshape(batch, -1, *whole)
    wanted = [size * step for size, step in zip(sizes, steps, strict=True)]
    if output_shape is not None:
        wanted = [int(size) for size in output_shape[2:]]
    elif pad_type == "valid":
        wanted = whole
    before = [max(0, size - want) // 2 for size, want in zip(whole, wanted, strict=True)]
    if pad_type == "custom":
        assert pad is not None
        pairs = np.asarray(pad).reshape(-1, 2)
        before = [int(pair[0]) for pair in pairs]
        if output_shape is None:
            wanted = [size - int(sum(pair)) for size, pair in zip(whole, pairs, strict=True)]
    result = _cut(result, before, wanted)
    return result if bias is None else result + bias.reshape(1, -1, *[1] * rank)


def _cut(x: Array, before: list[int], sizes: list[int]) -> Array:
    """Cuts the spatial axes to ``sizes``, starting at ``before``; zeros beyond the end of ``x``."""
    pairs = list(zip(before, sizes, strict=True))
    inside: tuple[Any, ...] = tuple(slice(start, start + size) for start, size in pairs)
    x = x[(..., *inside)]
    short = [(0, want - size) for want, size in zip(sizes, x.shape[2:], strict=True)]
    return sized.pad(x, [(0, 0), (0, 0), *short])


def _pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None,
    pad_type: str,
    pad: Array | None,
    fill: float,
    combine: Callable[[Array, tuple[int, ...]], Array],
    ceil_mode: bool = False,
) -> Array:
    kernel = [int(width) for width in kernel_sizes]
    ones = [1] * len(kernel)
    steps = _whole(strides, len(kernel))
    pairs = spatial_pads(x.shape[2:], kernel, steps, ones, pad_type, pad)
    if ceil_mode:
        pairs = _to_the_last(x.shape[2:], kernel, steps, pairs)
    padded = sized.pad(x, [(0, 0), (0, 0), *pairs], constant_values=x.dtype.type(fill))
    patches = windows(padded, kernel, steps, ones)
    return combine(patches, tuple(range(-len(kernel), 0)))


@mil_op("max_pool", arithmetic=True)
def max_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Largest of each window: ``tensor<[n, C, *D], T> -> tensor<[n, C, *D_out], T>``."""
    return _pool(x, kernel_sizes, strides, pad_type, pad, -np.inf, np.max, ceil_mode)


@mil_op("avg_pool", arithmetic=True)
def avg_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """Mean of each window, with or without its padding: ``tensor<[n, C, *D], T> -> ...``."""
    totals = _pool(x, kernel_sizes, strides, pad_type, pad, 0.0, np.sum, ceil_mode)
    if exclude_padding_from_average:
        counts = _pool(
            np.ones_like(x), kernel_sizes, strides, pad_type, pad, 0.0, np.sum, ceil_mode
        )
        return totals / counts
    if not ceil_mode:
        return totals / np.float32(np.prod(kernel_sizes))
    # Positions beyond the padding, which the last window may include, never count.
    kernel = [int(width) for width in kernel_sizes]
    steps = _whole(strides, len(kernel))
    pairs = spatial_pads(x.shape[2:], kernel, steps, [1] * len(kernel), pad_type, pad)
    counted = sized.pad(np.ones_like(x), [(0, 0), (0, 0), *pairs], constant_values=1)
    further = [
        (0, more - after)
        for (_, after), (_, more) in zip(
            pairs, _to_the_last(x.shape[2:], kernel, steps, pairs), strict=True
        )
    ]
    whole = np.array(further).reshape(-1)
    return totals / _pool(counted, kernel_sizes, strides, "custom", whole, 0.0, np.sum)


@mil_op("l2_pool", arithmetic=True)
def l2_pool(
    x: Array,
    kernel_sizes: Array,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Square root of the sum of squares of each window: ``tensor<[n, C, *D], T> -> ...``."""
    squares = np.square(x)
    return np.sqrt(_pool(squares, kernel_sizes, strides, pad_type, pad, 0.0, np.sum, ceil_mode))


def _whole(values: Array | None, rank: int) -> list[int]:
    return [1] * rank if values is None else np.asarray(values, np.int64).tolist()


def _to_the_last(
    sizes: tuple[int, ...], kernel: list[int], strides: list[int], pads: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Padding, extended after each axis to the end of the last window.

    The number of windows is rounded up, but each begins in the input or in the padding before it.
    Source: ``PoolingLayerParams`` in NeuralNetwork.proto; PyTorch's ``ceil_mode``, which MIL names.
    """
    found = []
    for size, width, stride, (before, after) in zip(sizes, kernel, strides, pads, strict=True):
        count = -(-(size + before + after - width) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        reach = (count - 1) * stride + width
        found.append((before, max(after, reach - size - before)))
    return found
