"""Products: ``linear``, ``matmul``, ``einsum``, ``scaled_dot_product_attention``.

Source: "linear" and "transformers" in the MIL reference. Products accumulate in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil.movement import as_list
from asrbuild.coreml.executor.products import rows_times
from asrbuild.coreml.executor.registry import mil_op


@mil_op("linear", arithmetic=True)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: ``tensor<[*D, I], T>, <[O, I], T>, <[O], T> -> tensor<[*D, O], T>``."""  # noqa: E501
    product = rows_times(x, weight)
    if bias is not None:
        product += bias
    return product


@mil_op("matmul", arithmetic=True)
def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    """``tensor<[*, K1], T>, tensor<[*, K2], T> -> tensor<[*], T>``, batched like ``numpy.matmul``;
    a vector counts as a matrix of one row or column, and transposing it changes nothing."""
    if transpose_x and x.ndim > 1:
        x = np.swapaxes(x, -1, -2)
    if transpose_y and y.ndim > 1:
        y = np.swapaxes(y, -1, -2)
    if x.ndim == 3 and x.shape[0] == 1 and y.ndim == 2:
        return np.dot(x[0], y)[None]
    return np.matmul(x, y)


@mil_op("einsum", arithmetic=True)
def einsum(values: Any, equation: str) -> Array:
    """Products summed as the equation says; axes of size 1 broadcast."""
    arrays = as_list(values)
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays, strict=True):
        for letter, size in zip(term, array.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    stretched = [
        np.broadcast_to(array, [sizes[letter] for letter in term])
        for term, array in zip(terms, arrays, strict=True)
    ]
    return np.einsum(equation, *stretched, optimize=True)


@mil_op("scaled_dot_product_attention", arithmetic=True)
def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """``softmax(query @ key.T / sqrt(E) + mask) @ value``: ``tensor<[B, *, L, E], T>``,
    ``tensor<[B, *, S, E], T>``, ``tensor<[B, *, S, EV], T>``, and a mask: bool (what to see), or
    added.
    """
    scores = np.matmul(query, np.swapaxes(key, -1, -2)) / np.float32(math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        if attn_mask.dtype == np.bool_:
            scores = np.where(attn_mask, scores, np.float32(-np.inf))
        else:
            scores = scores + attn_mask
    powers = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return np.matmul(powers / np.sum(powers, axis=-1, keepdims=True), value)
