"""Images ``(n, C, H, W)``: ``convolution``, ``pooling``, ``padding``, ``batchnorm``.

Source: the messages of these names in NeuralNetwork.proto.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.errors import AsrbuildError
from asrbuild.executor.mil import convolution as mil
from asrbuild.executor.mil.movement import pad as mil_pad
from asrbuild.executor.mil.normalization import batch_norm as mil_batch_norm
from asrbuild.executor.mil.normalization import instance_norm
from asrbuild.executor.nnweights import NnWeights
from asrbuild.executor.registry import NOT_HERE, nn_layer


@nn_layer("convolution")
def convolution(layer: Any, weights: NnWeights) -> Any:
    """``(n, C_in, H, W) -> (n, C_out, H, W)``, or turned round (deconvolution). The weights
    (C_out, C_in / groups, H, W), turned round (C_in, C_out / groups, H, W), may be an input."""
    params = layer.convolution
    kernel = [int(size) for size in params.kernelSize] or [3, 3]
    fixed = {
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
        return lambda x, weight=own: mil.conv(x, weight, **fixed)
    outputs = [int(size) for size in params.outputShape]

    def turned(x: np.ndarray, weight: np.ndarray | None = own) -> np.ndarray:
        assert weight is not None
        shape = np.array([0, 0, *outputs]) if outputs else None
        return mil.conv_transpose(x, weight, output_shape=shape, **fixed)

    return turned


@nn_layer("pooling")
def pooling(layer: Any, weights: NnWeights) -> Any:
    """``(n, C, H, W) -> (n, C, H, W)``: largest, mean or L2 norm of each window, or of all."""
    params = layer.pooling
    if params.WhichOneof("PoolingPaddingType") == "includeLastPixel":
        raise AsrbuildError(
            f"layer {layer.name} pads to include the last pixel, which the executor does not do",
            fix=NOT_HERE,
        )
    kernel = [int(size) for size in params.kernelSize] or [3, 3]
    fixed: dict[str, Any] = {"strides": [int(size) for size in params.stride] or [1, 1]}
    fixed |= _padding(params)
    kind = params.PoolingType.Name(params.type)
    pool = {"MAX": mil.max_pool, "AVERAGE": mil.avg_pool, "L2": mil.l2_pool}[kind]
    if kind == "AVERAGE":
        fixed["exclude_padding_from_average"] = params.avgPoolExcludePadding
    if params.globalPooling:
        return lambda x: pool(x, np.array(x.shape[2:]))
    return lambda x: pool(x, np.array(kernel), **fixed)


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
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` by channel: (n, C, H, W)."""
    params = layer.batchnorm
    gamma, beta = weights.read(params.gamma), weights.read(params.beta)
    epsilon = np.float32(params.epsilon)
    if params.computeMeanVar:
        if not params.instanceNormalization:
            raise AsrbuildError(
                f"layer {layer.name} takes its mean over a batch, which the executor does not do",
                fix="convert the model for inference",
            )
        return lambda x: instance_norm(x, gamma, beta, epsilon)
    mean, variance = weights.read(params.mean), weights.read(params.variance)
    return lambda x: mil_batch_norm(x, mean, variance, gamma, beta, epsilon)


def _padding(params: Any) -> dict[str, Any]:
    """``valid`` with its amounts or ``same``, as the MIL ops name them."""
    if params.HasField("same"):
        top = params.same.DESCRIPTOR.fields_by_name["asymmetryMode"].enum_type
        lower = top.values_by_number[params.same.asymmetryMode].name == "TOP_LEFT_HEAVY"
        return {"pad_type": "same_lower" if lower else "same"}
    amounts = _borders(params.valid.paddingAmounts)
    return {"pad_type": "custom", "pad": amounts} if amounts.any() else {"pad_type": "valid"}


def _borders(message: Any) -> np.ndarray:
    """((top, bottom), (left, right)); zeros where the message says nothing."""
    amounts = [(int(e.startEdgeSize), int(e.endEdgeSize)) for e in message.borderAmounts]
    return np.array(amounts or [(0, 0), (0, 0)])
