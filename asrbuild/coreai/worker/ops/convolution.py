"""Lowers convolutions and pooling with one to three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw, tensor_type
from ..call import Call, op
from ..values import add, dims, ints, like, mul, rank, unsigned
from .elementwise import by_channel
from .movement import padded


def _whole(call: Call, name: str, count: int) -> list[int]:
    given = call.array(name)
    return [1] * count if given is None else [int(number) for number in given]


def _pads(
    call: Call, x: Any, kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """Padding (before, after) of each spatial axis; ``same`` puts the odd one after."""
    kind = call.array("pad_type", "valid")
    if kind == "valid":
        return [0] * (2 * len(kernel))
    if kind == "custom":
        return [int(size) for size in call.array("pad")]
    pairs: list[int] = []
    for size, width, stride, dilation in zip(dims(x)[2:], kernel, strides, dilations, strict=True):
        reach = (width - 1) * dilation + 1
        if size is None and stride > 1:
            raise call.refused("pad_type same, a stride and an axis of unknown size")
        total = reach - 1 if size is None else (-(-size // stride) - 1) * stride + reach - size
        total = max(0, total)
        less, more = total // 2, total - total // 2
        pairs += [more, less] if kind == "same_lower" else [less, more]
    return pairs


def _plane(x: Any) -> Any:
    """Adds a second spatial axis of size 1 to a value with one."""
    return raw.expand_dims(x, ints(3)) if rank(x) == 3 else x


def _line(x: Any, spatial: int) -> Any:
    return raw.shrink_dims(x, ints(3)) if spatial == 1 else x


@op("conv")
def conv(call: Call) -> Any:
    x = call.value("x")
    spatial = rank(x) - 2
    weight = call.array("weight") if call.is_constant("weight") else call.value("weight")
    shape = list(weight.shape) if call.is_constant("weight") else dims(weight)
    strides, dilations = (_whole(call, name, spatial) for name in ("strides", "dilations"))
    x = padded(x, _pads(call, x, [size or 0 for size in shape[2:]], strides, dilations))
    weight = values.const(weight) if call.is_constant("weight") else weight
    if spatial == 1:
        strides, dilations = [*strides, 1], [*dilations, 1]
    convolve = raw.conv3d if spatial == 3 else raw.conv2d
    groups = values.const(np.array(int(call.number("groups", 1)), np.uint32))
    made = convolve(_plane(x), _plane(weight), unsigned(*strides), unsigned(*dilations), groups)
    return _with_bias(call, _line(made, spatial))


def _with_bias(call: Call, made: Any) -> Any:
    if not call.has("bias"):
        return made
    if call.is_constant("bias"):
        return add(made, like(made, by_channel(call.array("bias"), rank(made))))
    shaped = raw.reshape(call.value("bias"), ints(1, -1, *[1] * (rank(made) - 2)))
    return add(made, shaped)


@op("conv_transpose")
def conv_transpose(call: Call) -> Any:
    """Lowers to a convolution of the input with zeros between its entries and flipped weights."""
    x, weight = call.value("x"), call.array("weight")
    spatial, groups = rank(x) - 2, int(call.number("groups", 1))
    strides, dilations = (_whole(call, name, spatial) for name in ("strides", "dilations"))
    kernel, sizes = weight.shape[2:], dims(x)[2:]
    if None in sizes:
        raise call.refused("an axis of unknown size")
    reach = [(width - 1) * dilation for width, dilation in zip(kernel, dilations, strict=True)]
    spread = _spread(x, strides)
    around = [size for one in reach for size in (one, one)]
    turned = np.flip(weight, tuple(range(2, weight.ndim)))
    by_group = turned.reshape(groups, -1, *turned.shape[1:]).swapaxes(1, 2)
    turned = np.ascontiguousarray(by_group.reshape(-1, *by_group.shape[2:]))
    ones = [1] * spatial
    if spatial == 1:
        dilations, ones = [*dilations, 1], [1, 1]
    convolve = raw.conv3d if spatial == 3 else raw.conv2d
    whole = convolve(
        _plane(padded(spread, around)),
        _plane(values.const(turned)),
        unsigned(*ones),
        unsigned(*dilations),
        values.const(np.array(groups, np.uint32)),
    )
    return _with_bias(call, _cut(call, _line(whole, spatial), sizes, strides))


def _spread(x: Any, strides: list[int]) -> Any:
    """Inserts zeros between the entries of a value's spatial axes."""
    for axis, stride in enumerate(strides, 2):
        if stride == 1:
            continue
        size = dims(x)[axis] or 0
        apart = raw.expand_dims(x, ints(axis + 1))
        around = [0, 0] * (rank(apart))
        around[2 * (axis + 1) + 1] = stride - 1
        filled = raw.pad(apart, unsigned(*around), like(x, 0), "constant")
        shape = dims(x)
        shape[axis] = size * stride
        x = values.cut(values.reshaped(filled, shape), axis, 0, (size - 1) * stride + 1)
    return x


def _cut(call: Call, whole: Any, sizes: list[int | None], strides: list[int]) -> Any:
    kind, given = call.array("pad_type", "valid"), call.array("output_shape")
    full = [size or 0 for size in dims(whole)[2:]]
    wanted = [(size or 0) * stride for size, stride in zip(sizes, strides, strict=True)]
    if given is not None:
        wanted = [int(size) for size in given[2:]]
    elif kind == "valid":
        wanted = full
    before = [max(0, size - want) // 2 for size, want in zip(full, wanted, strict=True)]
    if kind == "custom":
        pairs = np.asarray(call.array("pad")).reshape(-1, 2)
        before = [int(pair[0]) for pair in pairs]
        if given is None:
            wanted = [size - int(sum(pair)) for size, pair in zip(full, pairs, strict=True)]
    short = [
        max(0, start + want - size) for start, want, size in zip(before, wanted, full, strict=True)
    ]
    whole = padded(whole, [size for one in short for size in (0, one)])
    for axis, (start, want) in enumerate(zip(before, wanted, strict=True), 2):
        whole = values.cut(whole, axis, start, start + want)
    return whole


def _pooled(call: Call, x: Any, fill: float, largest: bool, pads: list[int]) -> Any:
    kernel = [int(width) for width in call.array("kernel_sizes")]
    spatial = len(kernel)
    strides = _whole(call, "strides", spatial)
    x = padded(x, pads, "constant", fill)
    ones = [1] * spatial
    if spatial == 1:
        kernel, strides, ones = [*kernel, 1], [*strides, 1], [1, 1]
    x = _plane(x)
    if not largest:
        pool = raw.sumpool3d if spatial == 3 else raw.sumpool2d
        made = pool(x, unsigned(*kernel), unsigned(*strides), unsigned(*ones))
        return _line(made, spatial)
    sizes = [
        -1 if size is None else (size - width) // stride + 1
        for size, width, stride in zip(dims(x)[2:], kernel, strides, strict=True)
    ]
    lead = [-1 if size is None else size for size in dims(x)[:2]]
    kind = tensor_type([*lead, *sizes], values.dtype_of(x))
    pool = raw.maxpool3d if spatial == 3 else raw.maxpool2d
    made = pool(
        kind,
        x,
        unsigned(*kernel),
        unsigned(*strides),
        unsigned(*ones),
        values.const(np.array(False)),
    )
    return _line(made, spatial)


def _pool_pads(call: Call, x: Any) -> tuple[list[int], list[int]]:
    """The declared padding, and the padding that the last window requires."""
    kernel = [int(width) for width in call.array("kernel_sizes")]
    strides = _whole(call, "strides", len(kernel))
    pads = _pads(call, x, kernel, strides, [1] * len(kernel))
    if not call.number("ceil_mode", False):
        return pads, pads
    further: list[int] = []
    for axis, (width, stride) in enumerate(zip(kernel, strides, strict=True)):
        size, before, after = dims(x)[2 + axis], pads[2 * axis], pads[2 * axis + 1]
        if size is None:
            raise call.refused("ceil_mode and an axis of unknown size")
        count = -(-(size + before + after - width) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        reach = (count - 1) * stride + width
        further += [before, max(after, reach - size - before)]
    return pads, further


@op("max_pool")
def max_pool(call: Call) -> Any:
    x = call.value("x")
    _, pads = _pool_pads(call, x)
    return _pooled(call, x, -np.inf, True, pads)


@op("avg_pool")
def avg_pool(call: Call) -> Any:
    x = call.value("x")
    asked, pads = _pool_pads(call, x)
    totals = _pooled(call, x, 0, False, pads)
    counted = bool(call.number("exclude_padding_from_average", False))
    if not counted and asked == pads:
        return mul(totals, like(totals, 1 / np.prod(call.array("kernel_sizes"), dtype=float)))
    sizes = dims(x)
    if None in sizes[2:]:
        raise call.refused("padding that is not counted and an axis of unknown size")
    ones = np.ones([1, 1, *(size or 0 for size in sizes[2:])])
    extra = pads
    if not counted:
        pairs = [(0, 0), (0, 0), *zip(asked[::2], asked[1::2], strict=True)]
        ones = np.pad(ones, pairs, constant_values=1)
        extra = [more - size for more, size in zip(pads, asked, strict=True)]
    counts = _pooled(call, like(x, ones), 0, False, extra)
    return values.divide(totals, counts)


@op("l2_pool")
def l2_pool(call: Call) -> Any:
    x = call.value("x")
    _, pads = _pool_pads(call, x)
    return raw.sqrt(_pooled(call, mul(x, x), 0, False, pads))
