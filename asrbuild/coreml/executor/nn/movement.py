"""Layers that move values: shapes, order, joining, splitting, and making constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.mil import movement as mil, tensor as mil_tensor
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

_F = np.float32


def integers(values: Any) -> list[int]:
    """The integers of a blob, which are floats in this format."""
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


@nn_layer("loadConstant")
def load_constant(layer: Any, weights: NnWeights) -> Any:
    """A constant of shape ``(1, 1, C, H, W)``."""
    params = layer.loadConstant
    value = weights.read(params.data, (1, 1, *(int(size) for size in params.shape)))
    value.flags.writeable = False
    return lambda: value


@nn_layer("concat")
def concat(layer: Any, weights: NnWeights) -> Any:
    """Joins along the channel axis, third from the end, or along the sequence axis, fifth."""
    axis = -5 if layer.concat.sequenceConcat else -3
    return lambda *inputs: np.concatenate(inputs, axis)


@nn_layer("split")
def split(layer: Any, weights: NnWeights) -> Any:
    """Cuts the channel axis, third from the end, into equal parts."""
    count = int(layer.split.nOutputs) or len(layer.output)
    return lambda x: mil.split(x, count, None, -3)


@nn_layer("flatten")
def flatten(layer: Any, weights: NnWeights) -> Any:
    """``(*, C, H, W) -> (*, C * H * W, 1, 1)``, the channel slowest or fastest."""
    params = layer.flatten
    last = params.FlattenOrder.Name(params.mode) == "CHANNEL_LAST"

    def run(x: Array) -> Array:
        rows = np.moveaxis(x, -3, -1) if last else x
        return rows.reshape(*x.shape[:-3], -1, 1, 1)

    return run


@nn_layer("reshape")
def reshape(layer: Any, weights: NnWeights) -> Any:
    """``(Seq, B, C, H, W)`` to three sizes (C, H, W) or four (Seq, C, H, W), the channel slowest or
    fastest on both sides."""
    params = layer.reshape
    target = [int(size) for size in params.targetShape]
    last = params.ReshapeOrder.Name(params.mode) == "CHANNEL_LAST"

    def run(x: Array) -> Array:
        lead = list(x.shape[:-3])
        if len(target) == 4:
            lead[0] = target[0]
        channels, height, width = target[-3:]
        if not last:
            return x.reshape(*lead, channels, height, width)
        rows = np.moveaxis(x, -3, -1).reshape(*lead, height, width, channels)
        return np.moveaxis(rows, -1, -3)

    return run


@nn_layer("permute")
def permute(layer: Any, weights: NnWeights) -> Any:
    """Permutes the axes Seq, C, H, W of ``(Seq, B, C, H, W)``; the batch stays."""
    places = (0, 2, 3, 4)
    order = [places[axis] for axis in layer.permute.axis or range(4)]
    return lambda x: np.transpose(x, (order[0], 1, *order[1:]))


@nn_layer("sequenceRepeat")
def sequence_repeat(layer: Any, weights: NnWeights) -> Any:
    """Repeats the sequence axis, fifth from the end, as a whole."""
    count = int(layer.sequenceRepeat.nRepetitions) or 1
    return lambda x: sized.tile(x, [count if axis == x.ndim - 5 else 1 for axis in range(x.ndim)])


@nn_layer("slidingWindows")
def sliding_windows(layer: Any, weights: NnWeights) -> Any:
    """Windows of ``axis``, which becomes two: how many, and their size."""
    params = layer.slidingWindows
    return lambda x: mil.sliding_windows(x, params.axis, params.windowSize, params.step or 1)


@nn_layer("reverseSeq")
def reverse_seq(layer: Any, weights: NnWeights) -> Any:
    """Flips the first so many steps of each batch entry; the second input says how many."""
    params = layer.reverseSeq
    return lambda x, lengths: mil.reverse_sequence(
        x, np.asarray(integers(lengths)), params.sequenceAxis, params.batchAxis
    )


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
    """Cuts along ``axis`` into ``numSplits`` equal parts, the first ones longer by one where that
    does not come out even, or parts of ``splitSizes``."""
    params = layer.splitND
    sizes = np.array(params.splitSizes, np.int64) if params.splitSizes else None
    axis, count = params.axis, int(params.numSplits) or len(layer.output)
    if sizes is None:
        sized.check_parts(count)
        return lambda x: np.array_split(x, count, axis)
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

    def run(*inputs: Array) -> Array:
        values = [np.asarray(value).reshape(-1)[0] for value in inputs]
        values += defaults[len(values) :]
        end, start, step = values
        return sized.arange(start, end, step, _F)

    return run


@nn_layer("oneHot")
def one_hot(layer: Any, weights: NnWeights) -> Any:
    """A new axis with ``onValue`` at each index, ``offValue`` elsewhere."""
    params = layer.oneHot
    on, off = _F(params.onValue), _F(params.offValue)

    def run(indices: Array, size: Array | None = None) -> Array:
        width = int(params.oneHotVectorSize) if size is None else integers(size)[0]
        return mil_tensor.one_hot(indices, width, params.axis, on, off)

    return run


@nn_layer("constantPad")
def constant_pad(layer: Any, weights: NnWeights) -> Any:
    """Pads every axis by (before, after) pairs, or to a size on one side, with ``value``; they may
    be the second input."""
    params = layer.constantPad
    amounts = [int(amount) for amount in params.padAmounts]
    to_size = params.padToGivenOutputSizeMode

    def run(x: Array, dynamic: Array | None = None) -> Array:
        pairs: Array = np.reshape(amounts if dynamic is None else integers(dynamic), (-1, 2))
        if to_size:
            # A target size, if there is one, is in the place of the padded side.
            sizes = np.array(x.shape)[:, None]
            pairs = np.where(pairs > 0, np.maximum(pairs - sizes, 0), 0)
        return sized.pad(x, pairs, constant_values=_F(params.value))

    return run
