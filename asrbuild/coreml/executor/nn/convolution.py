"""Images ``(n, C, H, W)``: ``convolution``, ``pooling``, ``padding``, ``batchnorm``; and volumes
``(n, C, D, H, W)``: ``convolution3d``, ``pooling3d``, ``globalPooling3d``.

Source: the messages of these names in NeuralNetwork.proto. It gives a turned ``convolution3d`` the
weights (C_out / groups, C_in, D, H, W); coremltools writes (C_in, C_out / groups, D, H, W), as of
``convolution``, and Apple's tests run on that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil import convolution as mil
from asrbuild.coreml.executor.mil.movement import pad as mil_pad
from asrbuild.coreml.executor.mil.normalization import batch_norm as mil_batch_norm, instance_norm
from asrbuild.coreml.executor.nn.by_batch import by_batch
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer


@nn_layer("convolution")
def convolution(layer: Any, weights: NnWeights) -> Any:
    """``(n, C_in, H, W) -> (n, C_out, H, W)``, or turned round (deconvolution). The weights
    (C_out, C_in / groups, H, W), turned round (C_in, C_out / groups, H, W), may be an input."""
    params = layer.convolution
    kernel = [int(size) for size in params.kernelSize] or [3, 3]
    fixed: dict[str, Any] = {
        "strides": [int(size) for size in params.stride] or [1, 1],
        "dilations": [int(size) for size in params.dilationFactor] or [1, 1],
        "groups": int(params.nGroups) or 1,
        "bias": weights.read(params.bias) if params.hasBias else None,
    } | _padding(params)
    own = None
    if len(layer.input) == 1:
        first = params.kernelChannels if params.isDeconvolution else params.outputChannels
        own = weights.read(params.weights).reshape(int(first), -1, *kernel)
    if not params.isDeconvolution:
        return by_batch(lambda x, weight=own: mil.conv(x, weight, **fixed))
    outputs = [int(size) for size in params.outputShape]

    def turned(x: Array, weight: Array | None = own) -> Array:
        assert weight is not None
        shape = np.array([0, 0, *outputs]) if outputs else None
        return mil.conv_transpose(x, weight, output_shape=shape, **fixed)

    return by_batch(turned)


@nn_layer("convolution3d")
def convolution3d(layer: Any, weights: NnWeights) -> Any:
    """``(n, C_in, D, H, W) -> (n, C_out, D, H, W)``, or turned round. Weights
    (C_out, C_in / groups, D, H, W), turned round (C_in, C_out / groups, D, H, W)."""
    params = layer.convolution3d
    kernel = [_axis(params, "kernel", axis) for axis in _VOLUME]
    fixed = _volume_padding(params, params.PaddingType.Name(params.paddingType)) | {
        "strides": [_axis(params, "stride", axis) for axis in _VOLUME],
        "dilations": [_axis(params, "dilation", axis) for axis in _VOLUME],
        "groups": int(params.nGroups) or 1,
        "bias": weights.read(params.bias) if params.hasBias else None,
    }
    first = params.inputChannels if params.isDeconvolution else params.outputChannels
    own = weights.read(params.weights).reshape(int(first), -1, *kernel)
    if not params.isDeconvolution:
        return lambda x: mil.conv(x, own, **fixed)
    outputs = [int(size) for size in params.outputShape]
    shape = np.array([0, 0, *outputs]) if outputs else None
    return lambda x: mil.conv_transpose(x, own, output_shape=shape, **fixed)


@nn_layer("pooling3d")
def pooling3d(layer: Any, weights: NnWeights) -> Any:
    """``(n, C, D, H, W) -> (n, C, D, H, W)``: largest or mean of each window."""
    params = layer.pooling3d
    kernel = np.array([_axis(params, "kernel", axis) for axis in _VOLUME])
    fixed = _volume_padding(params, params.Pooling3DPaddingType.Name(params.paddingType))
    fixed["strides"] = [_axis(params, "stride", axis) for axis in _VOLUME]
    if params.PoolingType3D.Name(params.type) == "MAX":
        return lambda x: mil.max_pool(x, kernel, **fixed)
    fixed["exclude_padding_from_average"] = params.countExcludePadding
    return lambda x: mil.avg_pool(x, kernel, **fixed)


@nn_layer("globalPooling3d")
def global_pooling3d(layer: Any, weights: NnWeights) -> Any:
    """``(n, C, D, H, W) -> (n, C, 1, 1, 1)``: largest or mean of all."""
    params = layer.globalPooling3d
    pool = np.max if params.GlobalPoolingType3D.Name(params.type) == "MAX" else np.mean
    return lambda x: pool(x, axis=(-3, -2, -1), keepdims=True)


_POOLS: dict[str, Callable[..., Array]] = {
    "MAX": mil.max_pool,
    "AVERAGE": mil.avg_pool,
    "L2": mil.l2_pool,
}


@nn_layer("pooling")
def pooling(layer: Any, weights: NnWeights) -> Any:
    """``(n, C, H, W) -> (n, C, H, W)``: largest, mean or L2 norm of each window, or of all."""
    params = layer.pooling
    kernel = [int(size) for size in params.kernelSize] or [3, 3]
    fixed: dict[str, Any] = {"strides": [int(size) for size in params.stride] or [1, 1]}
    if params.HasField("includeLastPixel"):
        amounts = [int(size) for size in params.includeLastPixel.paddingAmounts] or [0, 0]
        fixed |= {"pad_type": "custom", "pad": np.repeat(amounts, 2), "ceil_mode": True}
    else:
        fixed |= _padding(params)
    kind = params.PoolingType.Name(params.type)
    pool = _POOLS[kind]
    if kind == "AVERAGE":
        fixed["exclude_padding_from_average"] = params.avgPoolExcludePadding
    if params.globalPooling:
        return by_batch(lambda x: pool(x, np.array(x.shape[2:])))
    return by_batch(lambda x: pool(x, np.array(kernel), **fixed))


@nn_layer("padding")
def padding(layer: Any, weights: NnWeights) -> Any:
    """Pads the last two axes: a constant, reflected, or the edge again."""
    params = layer.padding
    names = {"constant": "constant", "reflection": "reflect", "replication": "replicate"}
    mode = names[params.WhichOneof("PaddingType") or "constant"]
    pairs = _borders(params.paddingAmounts).reshape(-1)
    value = np.float32(params.constant.value)
    return lambda x: mil_pad(x, pairs, mode, value)


@nn_layer("batchnorm")
def batchnorm(layer: Any, weights: NnWeights) -> Any:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` by channel: (n, C, H, W). Mean and
    variance are parameters, or those of each entry, or of the whole batch."""
    params = layer.batchnorm
    gamma, beta = weights.read(params.gamma), weights.read(params.beta)
    epsilon: Any = np.float32(params.epsilon or 1e-5)
    if params.computeMeanVar:
        if params.instanceNormalization:
            return by_batch(lambda x: instance_norm(x, gamma, beta, epsilon))
        return by_batch(lambda x: _of_the_batch(x, gamma, beta, epsilon))
    mean, variance = weights.read(params.mean), weights.read(params.variance)
    return by_batch(lambda x: mil_batch_norm(x, mean, variance, gamma, beta, epsilon))


def _of_the_batch(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    mean = np.mean(x, axis=(0, 2, 3))
    variance = np.mean(np.square(x - mean.reshape(1, -1, 1, 1)), axis=(0, 2, 3))
    return mil_batch_norm(x, mean, variance, gamma, beta, epsilon)


_VOLUME = ("Depth", "Height", "Width")
_SIDES = ("Front", "Back", "Top", "Bottom", "Left", "Right")


def _axis(params: Any, what: str, axis: str) -> int:
    return int(getattr(params, f"{what}{axis}")) or 1


def _volume_padding(params: Any, kind: str) -> dict[str, Any]:
    """The padding of a 3D layer, as arguments of the MIL ops."""
    if kind != "CUSTOM":
        return {"pad_type": kind.lower()}
    amounts = [int(getattr(params, f"customPadding{side}")) for side in _SIDES]
    return {"pad_type": "custom", "pad": np.array(amounts)}


def _padding(params: Any) -> dict[str, Any]:
    """The padding of a layer as arguments of the MIL ops."""
    if params.HasField("same"):
        top = params.same.DESCRIPTOR.fields_by_name["asymmetryMode"].enum_type
        lower = top.values_by_number[params.same.asymmetryMode].name == "TOP_LEFT_HEAVY"
        return {"pad_type": "same_lower" if lower else "same"}
    amounts = _borders(params.valid.paddingAmounts)
    return {"pad_type": "custom", "pad": amounts} if amounts.any() else {"pad_type": "valid"}


def _borders(message: Any) -> Array:
    """((top, bottom), (left, right)) of a message; zeros if it has no amounts."""
    amounts = [(int(e.startEdgeSize), int(e.endEdgeSize)) for e in message.borderAmounts]
    return np.array(amounts or [(0, 0), (0, 0)])
