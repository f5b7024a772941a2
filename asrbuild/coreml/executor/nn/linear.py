"""Products: ``innerProduct``, ``batchedMatmul``, ``dot``, ``embedding``, ``embeddingND``."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil.linear import matmul
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.products import rows_times
from asrbuild.coreml.executor.registry import nn_layer


@nn_layer("innerProduct")
def inner_product(layer: Any, weights: NnWeights) -> Any:
    """``(*, C_in) -> (*, C_out)`` up to rank 3; ``(n, C, H, W) -> (n, C_out, 1, 1)``, with or
    without a sequence axis before it; weights (C_out, C_in)."""
    params = layer.innerProduct
    shape = (int(params.outputChannels), int(params.inputChannels))
    run = _affine(
        weights.read(params.weights, shape), weights.read(params.bias) if params.hasBias else None
    )

    def flat(x: Array) -> Array:
        return run(x.reshape(*x.shape[:-3], -1))[..., None, None]

    return lambda x: flat(x) if x.ndim > 3 else run(x)


@nn_layer("batchedMatmul")
def batched_matmul(layer: Any, weights: NnWeights) -> Any:
    """``A @ B`` with batches, either transposed; or one input and weights of its own, where the
    format ignores both transposes."""
    params = layer.batchedMatmul
    if len(layer.input) == 2:
        transpose_a, transpose_b = params.transposeA, params.transposeB
        return lambda a, b: _product(a, b, transpose_a, transpose_b)
    # Stored transposed: (outputs, inputs).
    shape = (int(params.weightMatrixSecondDimension), int(params.weightMatrixFirstDimension))
    return _affine(
        weights.read(params.weights, shape), weights.read(params.bias) if params.hasBias else None
    )


def _product(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> Array:
    """A batched product; vectors become a row and a column, so the result has two axes or more."""
    if a.ndim == 1:
        a, transpose_a = a[None], False
    if b.ndim == 1:
        b, transpose_b = b[:, None], False
    return matmul(a, b, transpose_a, transpose_b)


@nn_layer("dot")
def dot(layer: Any, weights: NnWeights) -> Any:
    """The product of two vectors, or its cosine: ``(*, C, 1, 1) x 2 -> (*, 1, 1, 1)``."""
    cosine = layer.dot.cosineSimilarity

    def length(x: Array) -> Array:
        return np.sqrt(np.sum(np.square(x), axis=-3, keepdims=True))

    def run(x: Array, y: Array) -> Array:
        if cosine:
            x, y = x / length(x), y / length(y)
        return np.sum(x * y, axis=-3, keepdims=True)

    return run


@nn_layer("embedding")
def embedding(layer: Any, weights: NnWeights) -> Any:
    """``(*, 1, 1, 1)`` of indices to ``(*, C, 1, 1)``; weights (C, inputDim)."""
    params = layer.embedding
    shape = (int(params.outputChannels), int(params.inputDim))
    run = _lookup(params, weights.read(params.weights, shape), weights)
    return lambda x: run(x[..., 0, 0])[..., None, None]


@nn_layer("embeddingND")
def embedding_nd(layer: Any, weights: NnWeights) -> Any:
    """``(*, 1)`` of indices to ``(*, embeddingSize)``; weights (embeddingSize, vocabSize)."""
    params = layer.embeddingND
    shape = (int(params.embeddingSize), int(params.vocabSize))
    return _lookup(params, weights.read(params.weights, shape), weights)


def _lookup(params: Any, table: Array, weights: NnWeights) -> Any:
    bias = weights.read(params.bias) if params.hasBias else np.float32(0.0)
    rows = np.ascontiguousarray(table.T)
    return lambda x: np.take(rows, x[..., 0].astype(np.int64), 0) + bias


def _affine(weight: Array, bias: Array | None) -> Any:
    def run(x: Array) -> Array:
        product = rows_times(x, weight)
        if bias is not None:
            product += bias
        return product

    return run
