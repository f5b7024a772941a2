"""Lowers ops that make tensors, read their shapes, sort or count them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import dims, ints, like, rank


@op("shape")
def shape(call: Call) -> Any:
    x = call.value("x")
    sizes, wanted = dims(x), call.output_dtype()
    if None not in sizes:
        return np.array(sizes, wanted)
    return raw.cast(raw.get_shape(x), wanted)


@op("fill")
def fill(call: Call) -> Any:
    number = call.array("value", np.float32(0))
    kind = call.output_dtype()
    if call.is_constant("shape"):
        return values.const(np.full([int(size) for size in call.array("shape")], number, kind))
    count = dims(call.value("shape"))[0] or 0
    one = values.const(np.full([1] * count, number, kind))
    return raw.broadcast_to(one, raw.cast(call.value("shape"), np.uint32))


@op("fill_like")
def fill_like(call: Call) -> Any:
    reference = call.value("ref_tensor")
    one = values.const(
        np.full([1] * rank(reference), call.array("value", np.float32(0)), call.output_dtype())
    )
    return raw.broadcast_to(one, raw.get_shape(reference))


@op("range_1d")
def range_1d(call: Call) -> Any:
    parts = [values.scalar(call.value(name)) for name in ("start", "end", "step")]
    return raw.range_(*parts)


@op("one_hot")
def one_hot(call: Call) -> Any:
    indices, count = call.value("indices"), int(call.number("one_hot_vector_size"))
    kind = call.output_dtype()
    axis = int(call.number("axis", -1)) % (rank(indices) + 1)
    shaped = [1] * (rank(indices) + 1)
    shaped[axis] = count
    places = values.const(np.arange(count, dtype=np.int32).reshape(shaped))
    hit = raw.broadcasting_equal(raw.expand_dims(indices, ints(axis)), places)
    on, off = (
        values.const(np.asarray(call.array(name, otherwise)).astype(kind))
        for name, otherwise in (("on_value", 1), ("off_value", 0))
    )
    return values.where(hit, on, off)


@op("non_zero")
def non_zero(call: Call) -> Any:
    return raw.cast(raw.non_zero(call.value("x")), np.int32)


@op("cumsum")
def cumsum(call: Call) -> Any:
    x = call.value("x")
    axis = int(call.number("axis", 0)) % rank(x)
    backwards = bool(call.number("reverse", False))
    total = raw.scan(
        x, values.const(np.array(axis, np.uint32)), values.const(np.array(backwards)), "sum"
    )
    return values.sub(total, x) if call.number("exclusive", False) else total


@op("band_part")
def band_part(call: Call) -> Any:
    x = call.value("x")
    rows, columns = dims(x)[-2:]
    if rows is None or columns is None:
        raise call.refused("a matrix of unknown size")
    row, column = np.indices((rows, columns), sparse=True)
    lower, upper = int(call.number("lower", -1)), int(call.number("upper", -1))
    inside = np.ones((rows, columns), bool)
    if lower >= 0:
        inside &= row - column <= lower
    if upper >= 0:
        inside &= column - row <= upper
    return values.where(values.const(inside), x, like(x, 0))


def _order(x: Any, axis: int, ascending: bool) -> Any:
    """The indices that sort an axis; equal values keep their order."""
    descending, stable = (values.const(np.array(flag)) for flag in (not ascending, True))
    return raw.argsort(x, values.index(axis), descending, stable)


@op("argsort")
def argsort(call: Call) -> Any:
    x = call.value("x")
    axis = int(call.number("axis", -1)) % rank(x)
    return raw.cast(_order(x, axis, bool(call.number("ascending", False))), np.int32)


@op("topk")
def topk(call: Call) -> Any:
    x = call.value("x")
    axis, count = int(call.number("axis", -1)) % rank(x), int(call.number("k", 1))
    order = _order(x, axis, bool(call.number("ascending", False)))
    places = values.cut(raw.cast(order, np.int32), axis, 0, count)
    largest = raw.gather_along_axis(x, places, values.index(axis))
    if len(call.operation["outputs"]) == 1:
        return largest
    wanted = call.output_dtype(1)
    return [largest, places if wanted is np.int32 else raw.cast(places, wanted)]


def _along(call: Call, x: Any, name: str) -> Any:
    """A scale or zero point in single precision, reshaped for broadcasting along its axis."""
    numbers = np.asarray(call.array(name, 0), np.float32)
    shaped = [1] * rank(x)
    if numbers.ndim:
        shaped[int(call.number("axis")) % rank(x)] = -1
    return values.const(numbers.reshape(shaped if numbers.ndim else [1] * rank(x)))


@op("quantize")
def quantize(call: Call) -> Any:
    x, wanted = call.value("input"), call.output_dtype()
    wide = raw.cast(x, np.float32) if values.dtype_of(x) is not np.float32 else x
    level = raw.round_(values.divide(wide, _along(call, x, "scale")))
    level = values.add(level, _along(call, x, "zero_point"))
    limits = np.iinfo(wanted)
    low, high = (like(wide, limit) for limit in (limits.min, limits.max))
    level = raw.broadcasting_maximum(*values.same_rank(level, low))
    return raw.cast(raw.broadcasting_minimum(*values.same_rank(level, high)), wanted)


@op("dequantize")
def dequantize(call: Call) -> Any:
    x, wanted = call.value("input"), call.output_dtype()
    centred = values.sub(raw.cast(x, np.float32), _along(call, x, "zero_point"))
    scaled = values.mul(centred, _along(call, x, "scale"))
    return scaled if wanted is np.float32 else raw.cast(scaled, wanted)
