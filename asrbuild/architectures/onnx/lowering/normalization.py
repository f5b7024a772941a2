"""Lowers normalisations, by statistics of training or of the input."""

from __future__ import annotations

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.shapes import reshape_to
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of, shape_of
from asrbuild.architectures.onnx.lowering.values import Value, is_known
from asrbuild.base.array import Array

#: First op set in which GroupNormalization scales channels, not groups.
_BY_CHANNEL = 21


def _epsilon(call: NodeCall) -> np.float32:
    return np.float32(call.attribute("epsilon", 1e-5))


@lowers("BatchNormalization")
def batch_normalization(
    call: NodeCall, x: Value, scale: Value, bias: Value, mean: Value, variance: Value
) -> Var:
    """Normalises by the statistics of training."""
    if call.attribute("training_mode", 0):
        raise call.no_form("training_mode")
    x, names = call.var(x), ("mean", "variance", "gamma", "beta")
    given = {
        name: call.constant(value, f"a {name}").astype(np.float32)
        for name, value in zip(names, (mean, variance, scale, bias), strict=True)
    }
    if 3 <= rank_of(x) <= 5:
        return mb.batch_norm(x=x, epsilon=_epsilon(call), **given)
    factor = given["gamma"] / np.sqrt(given["variance"] + _epsilon(call))
    shape = (-1, *[1] * (rank_of(x) - 2))
    scaled = mb.mul(x=x, y=factor.reshape(shape))
    return mb.add(x=scaled, y=(given["beta"] - given["mean"] * factor).reshape(shape))


@lowers("LayerNormalization")
def layer_normalization(call: NodeCall, x: Value, scale: Value, bias: Value = None) -> Var:
    """Normalises over the axes from ``axis`` on."""
    if any(call.node.outputs[1:]):
        raise call.no_form("the mean or deviation as an output")
    x = call.var(x)
    axis = call.attribute("axis", -1) % rank_of(x)
    axes = list(range(axis, rank_of(x)))
    shape = tuple(shape_of(x)[axis:])
    known = is_known(scale) and (bias is None or is_known(bias))
    if known and scale.shape == shape and (bias is None or bias.shape == shape):
        return mb.layer_norm(
            x=x,
            axes=axes,
            gamma=call.constant(scale, "a scale"),
            beta=None if bias is None else call.constant(bias, "a bias"),
            epsilon=_epsilon(call),
        )
    made = mb.mul(x=mb.layer_norm(x=x, axes=axes, epsilon=_epsilon(call)), y=call.var(scale))
    return made if bias is None else mb.add(x=made, y=call.var(bias))


@lowers("RMSNormalization")
def rms_normalization(call: NodeCall, x: Value, scale: Value) -> Var:
    """Divides by the root of the mean square over the axes from ``axis`` on."""
    x = call.var(x)
    axis = call.attribute("axis", -1) % rank_of(x)
    mean = mb.reduce_mean(x=mb.mul(x=x, y=x), axes=list(range(axis, rank_of(x))), keep_dims=True)
    root = mb.rsqrt(x=mb.add(x=mean, y=_epsilon(call)), epsilon=np.float32(0))
    return mb.mul(x=mb.mul(x=x, y=root), y=call.var(scale))


@lowers("InstanceNormalization")
def instance_normalization(call: NodeCall, x: Value, scale: Value, bias: Value) -> Var:
    """Normalises each channel over all later axes."""
    x, rank = call.var(x), rank_of(x)
    gamma, beta = call.constant(scale, "a scale"), call.constant(bias, "a bias")
    if rank in (3, 4):
        return mb.instance_norm(x=x, gamma=gamma, beta=beta, epsilon=_epsilon(call))
    made = mb.layer_norm(x=x, axes=list(range(2, rank)), epsilon=_epsilon(call))
    return _by_channel(made, gamma, beta)


@lowers("GroupNormalization")
def group_normalization(call: NodeCall, x: Value, scale: Value, bias: Value) -> Var:
    """Normalises each group of channels over all later axes."""
    x, groups = call.var(x), call.attribute("num_groups")
    sizes = shape_of(x)
    gamma, beta = call.constant(scale, "a scale"), call.constant(bias, "a bias")
    if call.node.opset < _BY_CHANNEL:
        gamma, beta = (np.repeat(one, sizes[1] // groups) for one in (gamma, beta))
    grouped = reshape_to(call, x, [sizes[0], groups, sizes[1] // groups, *sizes[2:]])
    axes = list(range(2, rank_of(grouped)))
    made = mb.layer_norm(x=grouped, axes=axes, epsilon=_epsilon(call))
    return _by_channel(reshape_to(call, made, sizes), gamma, beta)


def _by_channel(x: Var, gamma: Array, beta: Array) -> Var:
    shape = (1, -1, *[1] * (rank_of(x) - 2))
    return mb.add(x=mb.mul(x=x, y=gamma.reshape(shape)), y=beta.reshape(shape))


@lowers("LpNormalization")
def lp_normalization(call: NodeCall, x: Value) -> Var:
    """Divides by the norm along one axis."""
    reduce = mb.reduce_l1_norm if call.attribute("p", 2) == 1 else mb.reduce_l2_norm
    x = call.var(x)
    return mb.real_div(x=x, y=reduce(x=x, axes=[call.attribute("axis", -1)], keep_dims=True))
