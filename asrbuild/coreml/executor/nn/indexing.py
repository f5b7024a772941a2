"""Layers that read, write and slice by index; indices are floats in this format."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil import (
    gather as mil_gather,
    scatter as mil_scatter,
    tensor as mil_tensor,
)
from asrbuild.coreml.executor.mil.slicing import index_slices, slice_by_size
from asrbuild.coreml.executor.nn.movement import integers
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

_F = np.float32
#: ``ScatterMode`` number -> MIL's name.
_MODES = ("update", "add", "sub", "mul", "div", "max", "min")


@nn_layer("gather")
def gather(layer: Any, weights: NnWeights) -> Any:
    """Slices along ``axis``: shapes D and N to ``D[:axis] + N + D[axis+1:]``."""
    axis = layer.gather.axis
    return lambda x, indices: np.take(x, indices.astype(np.int64), axis)


@nn_layer("gatherND")
def gather_nd(layer: Any, weights: NnWeights) -> Any:
    """Slices by index vectors: shapes D and K to ``K[:-1] + D[K[-1]:]``."""
    return lambda x, indices: np.atleast_1d(mil_gather.gather_nd(x, indices.astype(np.int64)))


@nn_layer("gatherAlongAxis")
def gather_along_axis(layer: Any, weights: NnWeights) -> Any:
    """Values along ``axis``: shapes D and K to K."""
    axis = layer.gatherAlongAxis.axis
    return lambda x, indices: mil_gather.gather_along_axis(x, indices, axis)


@nn_layer("scatter")
def scatter(layer: Any, weights: NnWeights) -> Any:
    """Writes slices along ``axis``: data, indices, updates to the data's shape."""
    axis, mode = layer.scatter.axis, _MODES[layer.scatter.mode]

    def run(data: Array, indices: Array, updates: Array) -> Array:
        return mil_scatter.scatter(data, indices.astype(np.int64), updates, axis, mode)

    return _owning(run)


@nn_layer("scatterND")
def scatter_nd(layer: Any, weights: NnWeights) -> Any:
    """Writes slices by index vectors: data, indices, updates to the data's shape."""
    mode = _MODES[layer.scatterND.mode]

    def run(data: Array, indices: Array, updates: Array) -> Array:
        return mil_scatter.scatter_nd(data, indices.astype(np.int64), updates, mode)

    return _owning(run)


@nn_layer("scatterAlongAxis")
def scatter_along_axis(layer: Any, weights: NnWeights) -> Any:
    """Writes values along ``axis``: data, indices, updates to the data's shape."""
    axis, mode = layer.scatterAlongAxis.axis, _MODES[layer.scatterAlongAxis.mode]

    def run(data: Array, indices: Array, updates: Array) -> Array:
        return mil_scatter.scatter_along_axis(data, indices, updates, axis, mode)

    return _owning(run)


@nn_layer("slice")
def slice_axis(layer: Any, weights: NnWeights) -> Any:
    """``start:end:stride`` of the channel, height or width axis: the last three, in that order."""
    params = layer.slice
    end = int(params.endIndex)
    part = slice(int(params.startIndex), end, int(params.stride) or 1)
    behind = 2 - int(params.axis)
    index = (..., part, *[slice(None)] * behind)
    return lambda x: x[index]


@nn_layer("sliceStatic")
def slice_static(layer: Any, weights: NnWeights) -> Any:
    """``begin:end:stride`` of every axis, with masks."""
    params = layer.sliceStatic
    index = index_slices(
        np.array(params.beginIds),
        np.array(params.endIds),
        np.array(params.strides),
        np.array(params.beginMasks),
        np.array(params.endMasks),
        np.array(params.squeezeMasks) if params.squeezeMasks else None,
    )
    return lambda x: np.atleast_1d(x[index])


@nn_layer("sliceDynamic")
def slice_dynamic(layer: Any, weights: NnWeights) -> Any:
    """As ``sliceStatic``; begin and, where given, end, strides and masks are inputs."""
    params = layer.sliceDynamic

    def run(x: Array, begin: Array, *more: Array) -> Array:
        given: list[Any] = [integers(value) for value in more]
        given += [
            list(part) or None
            for part in (
                params.endIds,
                params.strides,
                params.beginMasks,
                params.endMasks,
                params.squeezeMasks,
            )[len(given) :]
        ]
        return np.atleast_1d(x[index_slices(np.array(integers(begin)), *given)])

    return run


@nn_layer("sliceBySize")
def slice_by_size_layer(layer: Any, weights: NnWeights) -> Any:
    """``size`` entries along ``axis`` from where the second input says."""
    size, axis = int(layer.sliceBySize.size), int(layer.sliceBySize.axis)

    def run(x: Array, begin: Array) -> Array:
        first = np.zeros(x.ndim, np.int64)
        count = np.array(x.shape)
        first[axis], count[axis] = integers(begin)[0], size
        return slice_by_size(x, first, count)

    return run


@nn_layer("argMax")
def arg_max(layer: Any, weights: NnWeights) -> Any:
    """Index of the first largest value along ``axis``."""
    params = layer.argMax
    return lambda x: _keep_rank(np.argmax(x, params.axis, keepdims=not params.removeDim))


@nn_layer("argMin")
def arg_min(layer: Any, weights: NnWeights) -> Any:
    """Index of the first smallest value along ``axis``."""
    params = layer.argMin
    return lambda x: _keep_rank(np.argmin(x, params.axis, keepdims=not params.removeDim))


@nn_layer("topK")
def top_k(layer: Any, weights: NnWeights) -> Any:
    """The K largest (or smallest) values along ``axis``, and their indices."""
    params = layer.topK

    def run(x: Array, k: Array | None = None) -> list[Array]:
        count = int(params.K) if k is None else integers(k)[0]
        values, indices = mil_tensor.topk(x, count, params.axis, params.useBottomK)
        return [values, indices.astype(_F)]

    return run


@nn_layer("argSort")
def arg_sort(layer: Any, weights: NnWeights) -> Any:
    """Order of the values along ``axis``."""
    params = layer.argSort
    return lambda x: mil_tensor.argsort(x, params.axis, not params.descending).astype(_F)


@nn_layer("whereNonZero")
def where_non_zero(layer: Any, weights: NnWeights) -> Any:
    """Indices of what is not zero: any shape to ``(n, rank)``."""
    return lambda x: mil_tensor.non_zero(x).astype(_F)


@nn_layer("matrixBandPart")
def matrix_band_part(layer: Any, weights: NnWeights) -> Any:
    """Zeros outside of a band around the diagonal of the last two axes."""
    params = layer.matrixBandPart
    return lambda x: mil_tensor.band_part(x, params.numLower, params.numUpper)


@nn_layer("lowerTriangular")
def lower_triangular(layer: Any, weights: NnWeights) -> Any:
    """Zeros above diagonal ``k`` of the last two axes."""
    return lambda x: np.tril(x, layer.lowerTriangular.k)


@nn_layer("upperTriangular")
def upper_triangular(layer: Any, weights: NnWeights) -> Any:
    """Zeros below diagonal ``k`` of the last two axes."""
    return lambda x: np.triu(x, layer.upperTriangular.k)


def _keep_rank(found: Any) -> Array:
    return np.atleast_1d(found).astype(_F)


def _owning(run: Any) -> Any:
    """Marks the function of a layer that writes into its first input."""
    run.owns_first = True
    return run
