"""Lowers convolutions and pooling, over one to three axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.parts import pad as pad_lowering
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of, shape_of
from asrbuild.architectures.onnx.lowering.values import Value, is_open


def _padding(call: NodeCall, x: Value, kernel: list[int]) -> dict[str, Any]:
    """The padding of a node as arguments of MIL: a pair for each axis."""
    count, stated = len(kernel), call.attribute("auto_pad", "NOTSET")
    if stated == "SAME_UPPER":
        return {"pad_type": "same"}
    if stated == "SAME_LOWER":
        pairs = list(map(_lower, shape_of(x)[2:], kernel, *_geometry(call, count)))
        if any(map(is_open, (size for pair in pairs for size in pair))):
            raise call.no_form("SAME_LOWER along an open axis")
    elif stated == "VALID":
        pairs = []
    else:
        pads = call.attribute("pads") or [0] * 2 * count
        pairs = [(pads[at], pads[at + count]) for at in range(count)]
    if not any(map(any, pairs)):
        return {"pad_type": "valid"}
    return {"pad_type": "custom", "pad": [size for pair in pairs for size in pair]}


def _geometry(call: NodeCall, count: int) -> tuple[list[int], list[int]]:
    return tuple(list(call.attribute(n) or [1] * count) for n in ("strides", "dilations"))  # type: ignore[return-value]


def _lower(size: Any, kernel: int, stride: int, dilation: int) -> tuple[Any, Any]:
    """Padding that gives ceil(size / stride) elements, with the odd one in front."""
    whole = dilation * (kernel - 1) + 1
    if is_open(size) and stride != 1:
        return size, size
    missing = (
        whole - 1 if stride == 1 else max(0, (math.ceil(size / stride) - 1) * stride + whole - size)
    )
    return missing - missing // 2, missing // 2


@lowers("Conv")
def conv(call: NodeCall, x: Value, weight: Value, bias: Value = None) -> Var:
    """Along the axes after batch and channels."""
    kernel = shape_of(weight)[2:]
    strides, dilations = _geometry(call, len(kernel))
    return mb.conv(
        x=call.var(x),
        weight=call.var(weight),
        bias=None if bias is None else call.var(bias),
        strides=strides,
        dilations=dilations,
        groups=call.attribute("group", 1),
        **_padding(call, x, kernel),
    )


@lowers("ConvTranspose")
def conv_transpose(call: NodeCall, x: Value, weight: Value, bias: Value = None) -> Var:
    """The gradient of a convolution; ``output_padding`` cuts fewer rows at the end."""
    kernel = shape_of(weight)[2:]
    strides, dilations = _geometry(call, len(kernel))
    if call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or call.attribute(
        "output_shape"
    ):
        raise call.no_form("auto_pad or output_shape")
    count = len(kernel)
    pads = call.attribute("pads") or [0] * 2 * count
    more = call.attribute("output_padding") or [0] * count
    before, after = list(pads[:count]), [pads[at + count] - more[at] for at in range(count)]
    added = [max(0, -size) for size in after]
    cut = [size for at in range(count) for size in (before[at], max(0, after[at]))]
    made = mb.conv_transpose(
        x=call.var(x),
        weight=call.constant(weight, "a weight"),
        strides=strides,
        dilations=dilations,
        groups=call.attribute("group", 1),
        **({"pad_type": "custom", "pad": cut} if any(cut) else {"pad_type": "valid"}),
    )
    if any(added):
        zeros = np.array([0] * (count + 4) + added)
        made = pad_lowering(_plain(call), made, zeros)
    if bias is None:
        return made
    return mb.add(x=made, y=np.reshape(call.constant(bias, "a bias"), (1, -1, *[1] * count)))


def _plain(call: NodeCall) -> NodeCall:
    """A call without the attributes of its node."""
    from dataclasses import replace

    return replace(call, node=replace(call.node, attributes={}))


def _pool(call: NodeCall, x: Value, write: Callable[..., Var], **more: Any) -> Var:
    kernel = list(call.attribute("kernel_shape"))
    strides, dilations = _geometry(call, len(kernel))
    if set(dilations) != {1}:
        raise call.no_form("dilations")
    padding = _padding(call, x, kernel)
    ceil = bool(call.attribute("ceil_mode", 0))
    if ceil and len(kernel) == 3:
        raise call.no_form("ceil_mode over three axes")
    if ceil:
        more["ceil_mode"] = True
    return write(x=call.var(x), kernel_sizes=kernel, strides=strides, **padding, **more)


@lowers("MaxPool")
def max_pool(call: NodeCall, x: Value) -> Var:
    """The largest of each window."""
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        raise call.no_form("the indices of the largest elements")
    return _pool(call, x, mb.max_pool)


@lowers("AveragePool")
def average_pool(call: NodeCall, x: Value) -> Var:
    """The mean of each window, with its padding if the node counts it."""
    without_padding = not call.attribute("count_include_pad", 0)
    return _pool(call, x, mb.avg_pool, exclude_padding_from_average=without_padding)


@lowers("GlobalAveragePool")
def global_average_pool(call: NodeCall, x: Value) -> Var:
    """The mean of each channel."""
    return mb.reduce_mean(x=call.var(x), axes=list(range(2, rank_of(x))), keep_dims=True)


@lowers("GlobalMaxPool")
def global_max_pool(call: NodeCall, x: Value) -> Var:
    """The largest element of each channel."""
    return mb.reduce_max(x=call.var(x), axes=list(range(2, rank_of(x))), keep_dims=True)
