"""Lowers products of matrices, and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import like


def transposed(matrix: Any) -> Any:
    """Swaps the last two axes of a value."""
    count = values.rank(matrix)
    order = [*range(count - 2), count - 1, count - 2]
    return raw.transpose(matrix, values.unsigned(*order))


@op("linear")
def linear(call: Call) -> Any:
    x = call.value("x")
    if call.is_constant("weight"):
        weight = values.const(call.array("weight").T)
    else:
        weight = transposed(call.value("weight"))
    vector = values.rank(x) == 1
    if vector:
        x = raw.expand_dims(x, values.ints(0))
    product = raw.broadcasting_batch_matmul(x, weight)
    if vector:
        product = raw.shrink_dims(product, values.ints(0))
    return values.add(product, call.value("bias")) if call.has("bias") else product


@op("matmul")
def matmul(call: Call) -> Any:
    x, y = call.value("x"), call.value("y")
    row, column = values.rank(x) == 1, values.rank(y) == 1
    if row:
        x = raw.expand_dims(x, values.ints(0))
    elif call.number("transpose_x", False):
        x = transposed(x)
    if column:
        y = raw.expand_dims(y, values.ints(1))
    elif call.number("transpose_y", False):
        y = transposed(y)
    product = raw.broadcasting_batch_matmul(*values.same_rank(x, y))
    if row:
        product = raw.shrink_dims(product, values.ints(values.rank(product) - 2))
    return raw.shrink_dims(product, values.ints(values.rank(product) - 1)) if column else product


@op("scaled_dot_product_attention")
def scaled_dot_product_attention(call: Call) -> Any:
    query, key = call.value("query"), call.value("key")
    width = values.dims(query)[-1]
    if width is None:
        raise call.refused("a query of unknown width")
    scores = raw.broadcasting_batch_matmul(*values.same_rank(query, transposed(key)))
    scores = values.mul(scores, like(scores, 1 / math.sqrt(width)))
    if call.has("attn_mask"):
        mask = call.value("attn_mask")
        if values.dtype_of(mask) is np.bool_:
            scores = values.where(mask, scores, like(scores, -np.inf))
        else:
            scores = values.add(scores, mask)
    weights = raw.softmax(scores, values.index(-1))
    return raw.broadcasting_batch_matmul(*values.same_rank(weights, call.value("value")))


@op("einsum")
def einsum(call: Call) -> Any:
    equation = call.array("equation").replace(" ", "")
    x, y = call.values("values")
    (left, right), result = equation.split("->")[0].split(","), equation.split("->")[1]
    if any(len(set(term)) < len(term) for term in (left, right, result)):
        raise call.refused(f"the equation {equation}")
    batch = [letter for letter in result if letter in left and letter in right]
    rows = [letter for letter in left if letter in result and letter not in right]
    columns = [letter for letter in right if letter in result and letter not in left]
    summed = [letter for letter in left if letter in right and letter not in result]
    if len(rows) != 1 or len(columns) != 1 or len(summed) != 1:
        raise call.refused(f"the equation {equation}")
    first = _ordered(x, left, [*batch, *rows, *summed])
    second = _ordered(y, right, [*batch, *summed, *columns])
    product = raw.broadcasting_batch_matmul(first, second)
    return _ordered(product, "".join([*batch, *rows, *columns]), list(result))


def _ordered(value: Any, letters: str, wanted: list[str]) -> Any:
    order = [letters.index(letter) for letter in wanted]
    if len(order) != len(letters):
        raise ValueError("an axis is summed in one term alone")
    return raw.transpose(value, values.unsigned(*order))
