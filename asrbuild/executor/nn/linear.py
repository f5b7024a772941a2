"""Products: ``innerProduct``, ``batchedMatmul``, ``embeddingND``."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.executor.mil.linear import matmul
from asrbuild.executor.nnweights import NnWeights
from asrbuild.executor.registry import nn_layer
from asrbuild.executor.together import rows_times


@nn_layer("innerProduct")
def inner_product(layer: Any, weights: NnWeights) -> Any:
    """``(*, inputChannels) -> (*, outputChannels)``; weights (outputs, inputs)."""
    params = layer.innerProduct
    shape = (int(params.outputChannels), int(params.inputChannels))
    return _affine(
        weights.read(params.weights, shape), weights.read(params.bias) if params.hasBias else None
    )


@nn_layer("batchedMatmul")
def batched_matmul(layer: Any, weights: NnWeights) -> Any:
    """``A @ B`` with batches, either transposed; or one input and weights of its own."""
    params = layer.batchedMatmul
    if len(layer.input) == 2:
        transpose_a, transpose_b = params.transposeA, params.transposeB
        return lambda a, b: matmul(a, b, transpose_a, transpose_b)
    # Stored transposed: (outputs, inputs).
    shape = (int(params.weightMatrixSecondDimension), int(params.weightMatrixFirstDimension))
    run = _affine(
        weights.read(params.weights, shape), weights.read(params.bias) if params.hasBias else None
    )
    return (lambda x: run(np.swapaxes(x, -1, -2))) if params.transposeA else run


@nn_layer("embeddingND")
def embedding_nd(layer: Any, weights: NnWeights) -> Any:
    """``(*, 1)`` of indices to ``(*, embeddingSize)``; weights (embeddingSize, vocabSize)."""
    params = layer.embeddingND
    table = weights.read(params.weights, (int(params.embeddingSize), int(params.vocabSize)))
    bias = weights.read(params.bias) if params.hasBias else np.float32(0.0)
    rows = np.ascontiguousarray(table.T)
    return lambda x: np.take(rows, x[..., 0].astype(np.int64), 0) + bias


def _affine(weight: np.ndarray, bias: np.ndarray | None) -> Any:
    def run(x: np.ndarray) -> np.ndarray:
        product = rows_times(x, weight)
        if bias is not None:
            product += bias
        return product

    return run
