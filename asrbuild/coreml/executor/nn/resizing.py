"""Layers that resize, crop or rearrange the last two or three axes (C, H, W), and boxes.

Source: ``UpsampleLayerParams``, ``SamplingMode`` and the messages of these layers in
NeuralNetwork.proto; its modes by the names that MIL has for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil import resizing as mil, spatial
from asrbuild.coreml.executor.mil.boxes import non_maximum_suppression
from asrbuild.coreml.executor.nn.by_batch import by_batch
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

_SAMPLING = {
    "STRICT_ALIGN_ENDPOINTS_MODE": "STRICT_ALIGN_CORNERS",
    "ALIGN_ENDPOINTS_MODE": "ALIGN_CORNERS",
    "UPSAMPLE_MODE": "DEFAULT",
    "ROI_ALIGN_MODE": "OFFSET_CORNERS",
}
_UPSAMPLING = {
    "DEFAULT": "DEFAULT",
    "ALIGN_CORNERS_TRUE": "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS_FALSE": "UNALIGN_CORNERS",
}


@nn_layer("upsample")
def upsample(layer: Any, weights: NnWeights) -> Any:
    """``(*, H, W)`` scaled by two factors: the nearest value, or bilinear."""
    params = layer.upsample
    factors = [float(f) for f in params.fractionalScalingFactor or params.scalingFactor] or [1, 1]
    bilinear = params.InterpolationMode.Name(params.mode) == "BILINEAR"
    mode = _UPSAMPLING[params.LinearUpsampleMode.Name(params.linearUpsampleMode)]

    def run(x: Array) -> Array:
        height, width = (
            mil.scaled(size, factor) for size, factor in zip(x.shape[-2:], factors, strict=True)
        )
        return mil.resized(x, height, width, mode) if bilinear else mil.nearest(x, height, width)

    return run


@nn_layer("resizeBilinear")
def resize_bilinear(layer: Any, weights: NnWeights) -> Any:
    """``(*, H, W)`` to ``targetSize``, bilinear."""
    params = layer.resizeBilinear
    height, width = [int(size) for size in params.targetSize] or [1, 1]
    mode = _sampling(params.mode)
    return lambda x: mil.resized(x, height, width, mode)


@nn_layer("cropResize")
def crop_resize(layer: Any, weights: NnWeights) -> Any:
    """Boxes (N, 1, 4 or 5, 1, 1) cut out of (1, B, C, H, W) and resized, bilinear:
    (N, B or 1, C, h, w)."""
    params = layer.cropResize
    height, width = [int(size) for size in params.targetSize] or [1, 1]
    boxes = params.boxIndicesMode
    coordinates = boxes.Coordinates.Name(boxes.boxMode)
    mode = _sampling(params.mode)

    def run(x: Array, roi: Array) -> Array:
        return mil.crop_resize(
            x.reshape(-1, *x.shape[-3:]),
            roi,
            None,
            None,
            height,
            width,
            params.normalizedCoordinates,
            params.spatialScale or 1.0,
            coordinates,
            mode,
        )

    return run


@nn_layer("crop")
def crop(layer: Any, weights: NnWeights) -> Any:
    """Cuts ``cropAmounts`` off the last two axes; or, from ``offset`` on, to the second input's
    sizes."""
    params = layer.crop
    edges: list[Any] = [
        (int(e.startEdgeSize), int(e.endEdgeSize)) for e in params.cropAmounts.borderAmounts
    ]
    top, left = [int(start) for start in params.offset] or [0, 0]

    def run(x: Array, like: Array | None = None) -> Array:
        if like is None:
            height, width = edges or [(0, 0), (0, 0)]
            return mil.crop(x, height, width)
        return x[..., top : top + like.shape[-2], left : left + like.shape[-1]]

    return run


@nn_layer("reorganizeData")
def reorganize_data(layer: Any, weights: NnWeights) -> Any:
    """Moves blocks of (H, W) into the channel (SPACE_TO_DEPTH) or back (DEPTH_TO_SPACE,
    PIXEL_SHUFFLE)."""
    params = layer.reorganizeData
    name = params.ReorganizationType.Name(params.mode)
    function = getattr(spatial, name.lower())
    return by_batch(lambda x: function(x, params.blockSize))


@nn_layer("NonMaximumSuppression")
def nms(layer: Any, weights: NnWeights) -> Any:
    """Boxes (B, N, 4) and scores (B, N, C), thresholds and ``maxBoxes`` that may be inputs, to the
    boxes that stay, their scores, their indices, and how many they are."""
    params = layer.NonMaximumSuppression
    defaults = [params.iouThreshold, params.scoreThreshold, params.maxBoxes]

    def run(boxes: Array, scores: Array, *limits: Array) -> list[Array]:
        values = [float(np.asarray(limit).reshape(-1)[0]) for limit in limits]
        overlap, least, most = values + defaults[len(values) :]
        found = non_maximum_suppression(
            boxes, scores, overlap, least, int(most), params.perClassSuppression
        )
        return [value.astype(np.float32) for value in found]

    return run


def _sampling(message: Any) -> str:
    return _SAMPLING[message.Method.Name(message.samplingMethod)]
