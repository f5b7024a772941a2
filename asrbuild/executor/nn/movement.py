"""Layers that move values: shapes, order, joining, splitting, and making constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.errors import AsrbuildError
from asrbuild.executor import sized
from asrbuild.executor.mil import movement as mil
from asrbuild.executor.mil import tensor as mil_tensor
from asrbuild.executor.nnweights import NnWeights
from asrbuild.executor.registry import NOT_HERE, nn_layer

_F = np.float32


def integers(values: Any) -> list[int]:
    """A blob of whole numbers, which are floats in this format."""
    return [int(value) for value in np.asarray(values).reshape(-1)]


@nn_layer("copy")
def copy(layer: Any, weights: NnWeights) -> Any:
    """Another name for the value: any shape to the same."""
    return lambda x: x


@nn_layer("loadConstantND")
def load_constant_nd(layer: Any, weights: NnWeights) -> Any:
    """A constant of ``shape``."""
    params = layer.loadConstantND
    value = weights.read(params.data, tuple(int(size) for size in params.shape))
    if value.nbytes < 1 << 16:
        value = value.copy()
    value.flags.writeable = False
    return lambda: value


@nn_layer("getShape")
def get_shape(layer: Any, weights: NnWeights) -> Any:
    """The sizes of the axes: any shape to ``(rank,)``."""
    return lambda x: np.array(x.shape, _F)


@nn_layer("expandDims")
def expand_dims(layer: Any, weights: NnWeights) -> Any:
    """Inserts axes of size 1 at ``axes`` of the result."""
    axes = tuple(layer.expandDims.axes)
    return lambda x: np.expand_dims(x, axes)


@nn_layer("squeeze")
def squeeze(layer: Any, weights: NnWeights) -> Any:
    """Removes ``axes``, or all axes of size 1; at least one axis remains."""
    params = layer.squeeze
    axes = None if params.squeezeAll else tuple(params.axes)
    return lambda x: np.atleast_1d(np.squeeze(x, axes))


@nn_layer("transpose")
def transpose(layer: Any, weights: NnWeights) -> Any:
    """Permutes axes."""
    axes = tuple(int(axis) for axis in layer.transpose.axes)
    return lambda x: np.transpose(x, axes)


@nn_layer("reshapeStatic")
def reshape_static(layer: Any, weights: NnWeights) -> Any:
    """To ``targetShape``; -1 is what remains."""
    shape = tuple(int(size) for size in layer.reshapeStatic.targetShape)
    return lambda x: x.reshape(shape)


@nn_layer("reshapeDynamic")
def reshape_dynamic(layer: Any, weights: NnWeights) -> Any:
    """To the shape in the second input; -1 is what remains."""
    return lambda x, shape: x.reshape(integers(shape))


@nn_layer("reshapeLike")
def reshape_like(layer: Any, weights: NnWeights) -> Any:
    """To the shape of the second input."""
    return lambda x, other: x.reshape(other.shape)


@nn_layer("rankPreservingReshape")
def rank_preserving_reshape(layer: Any, weights: NnWeights) -> Any:
    """To ``targetShape``; 0 keeps an axis, -1 is what remains."""
    shape = np.array(layer.rankPreservingReshape.targetShape, np.int64)
    return lambda x: mil.reshape(x, shape)


@nn_layer("flattenTo2D")
def flatten_to_2d(layer: Any, weights: NnWeights) -> Any:
    """Axes before ``axis`` and from it, each made one."""
    axis = layer.flattenTo2D.axis
    return lambda x: mil.flatten2d(x, axis)


@nn_layer("concatND")
def concat_nd(layer: Any, weights: NnWeights) -> Any:
    """Joins along ``axis``, interleaved if asked."""
    axis, interleave = layer.concatND.axis, layer.concatND.interleave
    return lambda *inputs: mil.concat(list(inputs), axis, interleave)


@nn_layer("stack")
def stack(layer: Any, weights: NnWeights) -> Any:
    """Joins along a new axis."""
    axis = layer.stack.axis
    return lambda *inputs: np.stack(inputs, axis)


@nn_layer("splitND")
def split_nd(layer: Any, weights: NnWeights) -> Any:
    """Cuts along ``axis`` into ``numSplits`` equal parts, or parts of ``splitSizes``."""
    params = layer.splitND
    sizes = np.array(params.splitSizes, np.int64) if params.splitSizes else None
    axis, count = params.axis, int(params.numSplits) or len(layer.output)
    return lambda x: mil.split(x, count, sizes, axis)


@nn_layer("tile")
def tile(layer: Any, weights: NnWeights) -> Any:
    """Repeats along each axis, by ``reps`` or by the second input."""
    reps = [int(count) for count in layer.tile.reps]
    return lambda x, dynamic=None: sized.tile(x, reps if dynamic is None else integers(dynamic))


@nn_layer("reverse")
def reverse(layer: Any, weights: NnWeights) -> Any:
    """Flips the axes marked in ``reverseDim``."""
    axes = tuple(axis for axis, flip in enumerate(layer.reverse.reverseDim) if flip)
    return lambda x: np.flip(x, axes)


@nn_layer("fillStatic")
def fill_static(layer: Any, weights: NnWeights) -> Any:
    """``targetShape`` filled with ``value``."""
    shape = tuple(int(size) for size in layer.fillStatic.targetShape)
    value = _F(layer.fillStatic.value)
    return lambda: sized.full(shape, value)


@nn_layer("fillDynamic")
def fill_dynamic(layer: Any, weights: NnWeights) -> Any:
    """The shape in the input, filled with ``value``."""
    value = _F(layer.fillDynamic.value)
    return lambda shape: sized.full(integers(shape), value)


@nn_layer("fillLike")
def fill_like(layer: Any, weights: NnWeights) -> Any:
    """The shape of the input, filled with ``value``."""
    value = _F(layer.fillLike.value)
    return lambda x: np.full(x.shape, value)


@nn_layer("broadcastToStatic")
def broadcast_to_static(layer: Any, weights: NnWeights) -> Any:
    """Broadcast to ``targetShape``."""
    shape = tuple(int(size) for size in layer.broadcastToStatic.targetShape)
    return lambda x: np.broadcast_to(x, shape)


@nn_layer("broadcastToDynamic")
def broadcast_to_dynamic(layer: Any, weights: NnWeights) -> Any:
    """Broadcast to the shape in the second input."""
    return lambda x, shape: np.broadcast_to(x, integers(shape))


@nn_layer("broadcastToLike")
def broadcast_to_like(layer: Any, weights: NnWeights) -> Any:
    """Broadcast to the shape of the second input."""
    return lambda x, other: np.broadcast_to(x, other.shape)


@nn_layer("rangeStatic")
def range_static(layer: Any, weights: NnWeights) -> Any:
    """``startValue`` by ``stepSizeValue`` up to ``endValue``, exclusive."""
    params = layer.rangeStatic
    return lambda: sized.arange(params.startValue, params.endValue, params.stepSizeValue, _F)


@nn_layer("rangeDynamic")
def range_dynamic(layer: Any, weights: NnWeights) -> Any:
    """Inputs end, start, step; the last two may be parameters: blobs of one value to ``(n,)``."""
    params = layer.rangeDynamic
    defaults = (0.0, params.startValue, params.stepSizeValue)

    def run(*inputs: np.ndarray) -> np.ndarray:
        given = [np.asarray(value).reshape(-1)[0] for value in inputs]
        end, start, step = (*given, *defaults[len(given) :])
        return sized.arange(start, end, step, _F)

    return run


@nn_layer("oneHot")
def one_hot(layer: Any, weights: NnWeights) -> Any:
    """A new axis with ``onValue`` at each index, ``offValue`` elsewhere."""
    params = layer.oneHot
    on, off = _F(params.onValue), _F(params.offValue)

    def run(indices: np.ndarray, size: np.ndarray | None = None) -> np.ndarray:
        width = int(params.oneHotVectorSize) if size is None else integers(size)[0]
        return mil_tensor.one_hot(indices, width, params.axis, on, off)

    return run


@nn_layer("constantPad")
def constant_pad(layer: Any, weights: NnWeights) -> Any:
    """Pads every axis by (before, after) pairs with ``value``; they may be the second input."""
    params = layer.constantPad
    if params.padToGivenOutputSizeMode:
        raise AsrbuildError(
            f"layer {layer.name} pads to a given size, which the executor does not do",
            fix=NOT_HERE,
        )
    amounts = [int(amount) for amount in params.padAmounts]

    def run(x: np.ndarray, dynamic: np.ndarray | None = None) -> np.ndarray:
        pairs = np.reshape(amounts if dynamic is None else integers(dynamic), (-1, 2))
        return sized.pad(x, pairs, constant_values=_F(params.value))

    return run
