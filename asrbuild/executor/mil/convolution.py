"""``conv``, ``max_pool``, ``avg_pool``, ``l2_pool`` over 1, 2 or 3 spatial axes.

Source: "conv" and "pool" in the MIL reference. Sums accumulate in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asrbuild.executor.registry import mil_op


def spatial_pads(
    sizes: tuple[int, ...],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pad_type: str,
    pad: np.ndarray | None,
) -> list[tuple[int, int]]:
    """(before, after) per spatial axis. ``same`` puts the odd one after, ``same_lower`` before."""
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        assert pad is not None
        return [(int(before), int(after)) for before, after in np.asarray(pad).reshape(-1, 2)]
    pairs = []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        less, more = total // 2, total - total // 2
        pairs.append((more, less) if pad_type == "same_lower" else (less, more))
    return pairs


def windows(
    x: np.ndarray, kernel: list[int], strides: list[int], dilations: list[int]
) -> np.ndarray:
    """``x (n, C, *D)`` as ``(n, C, *out, *kernel)``, a view."""
    rank = len(kernel)
    reach = [(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, 2 + rank)))
    steps = [slice(None, None, stride) for stride in strides]
    inside = [slice(None, None, dilation) for dilation in dilations]
    return view[(slice(None), slice(None), *steps, *inside)]


@mil_op("conv", arithmetic=True)
def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    strides: np.ndarray | None = None,
    pad_type: str = "valid",
    pad: np.ndarray | None = None,
    dilations: np.ndarray | None = None,
    groups: int = 1,
) -> np.ndarray:
    """``tensor<[n, C_in, *D], T>, <[C_out, C_in / groups, *K], T>, <[C_out], T>`` to
    ``tensor<[n, C_out, *D_out], T>``."""
    kernel = list(weight.shape[2:])
    steps, spread = _whole(strides, len(kernel)), _whole(dilations, len(kernel))
    pairs = spatial_pads(x.shape[2:], kernel, steps, spread, pad_type, pad)
    patches = windows(np.pad(x, [(0, 0), (0, 0), *pairs]), kernel, steps, spread)
    rank, groups = len(kernel), int(groups)
    batch, channels, out = x.shape[0], weight.shape[1], patches.shape[2 : 2 + rank]
    # (groups, n * out, C_in / groups * K) times (groups, C_out / groups, the same).
    patches = patches.reshape(batch, groups, channels, *out, *kernel)
    order = [1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank)]
    rows = patches.transpose(order).reshape(groups, -1, channels * int(np.prod(kernel)))
    product = rows @ weight.reshape(groups, weight.shape[0] // groups, -1).swapaxes(1, 2)
    result = product.reshape(groups, batch, *out, -1)
    result = np.moveaxis(result, -1, 1).swapaxes(0, 2).swapaxes(1, 2)
    result = result.reshape(batch, weight.shape[0], *out)
    return result if bias is None else result + bias.reshape(1, -1, *[1] * rank)


def _pool(
    x: np.ndarray,
    kernel_sizes: np.ndarray,
    strides: np.ndarray | None,
    pad_type: str,
    pad: np.ndarray | None,
    fill: float,
    combine: Callable[[np.ndarray, tuple[int, ...]], np.ndarray],
) -> np.ndarray:
    kernel = [int(width) for width in kernel_sizes]
    ones = [1] * len(kernel)
    steps = _whole(strides, len(kernel))
    pairs = spatial_pads(x.shape[2:], kernel, steps, ones, pad_type, pad)
    padded = np.pad(x, [(0, 0), (0, 0), *pairs], constant_values=x.dtype.type(fill))
    patches = windows(padded, kernel, steps, ones)
    return combine(patches, tuple(range(-len(kernel), 0)))


@mil_op("max_pool", arithmetic=True)
def max_pool(
    x: np.ndarray,
    kernel_sizes: np.ndarray,
    strides: np.ndarray | None = None,
    pad_type: str = "valid",
    pad: np.ndarray | None = None,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Largest of each window: ``tensor<[n, C, *D], T> -> tensor<[n, C, *D_out], T>``."""
    _refuse_ceil(ceil_mode)
    return _pool(x, kernel_sizes, strides, pad_type, pad, -np.inf, np.max)


@mil_op("avg_pool", arithmetic=True)
def avg_pool(
    x: np.ndarray,
    kernel_sizes: np.ndarray,
    strides: np.ndarray | None = None,
    pad_type: str = "valid",
    pad: np.ndarray | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Mean of each window, with or without its padding: ``tensor<[n, C, *D], T> -> ...``."""
    _refuse_ceil(ceil_mode)
    totals = _pool(x, kernel_sizes, strides, pad_type, pad, 0.0, np.sum)
    if not exclude_padding_from_average:
        return totals / np.float32(np.prod(kernel_sizes))
    counts = _pool(np.ones_like(x), kernel_sizes, strides, pad_type, pad, 0.0, np.sum)
    return totals / counts


@mil_op("l2_pool", arithmetic=True)
def l2_pool(
    x: np.ndarray,
    kernel_sizes: np.ndarray,
    strides: np.ndarray | None = None,
    pad_type: str = "valid",
    pad: np.ndarray | None = None,
    ceil_mode: bool = False,
) -> np.ndarray:
    """Square root of the sum of squares of each window: ``tensor<[n, C, *D], T> -> ...``."""
    _refuse_ceil(ceil_mode)
    return np.sqrt(_pool(np.square(x), kernel_sizes, strides, pad_type, pad, 0.0, np.sum))


def _whole(values: np.ndarray | None, rank: int) -> list[int]:
    return [1] * rank if values is None else [int(value) for value in values]


def _refuse_ceil(ceil_mode: bool) -> None:
    if ceil_mode:
        raise NotImplementedError("the executor has no ceil_mode; pool with ceil_mode=False")
