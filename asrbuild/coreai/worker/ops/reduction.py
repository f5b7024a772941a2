"""Lowers reductions over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import ints, positive, rank


def axes_of(call: Call, x: Any) -> list[int]:
    """The reduced axes; by default all of them."""
    axes = call.array("axes")
    return list(range(rank(x))) if axes is None else positive(axes, rank(x))


def _kept(call: Call, result: Any, axes: list[int]) -> Any:
    """A result with reduced axes of size 1, or without them."""
    if call.number("keep_dims", False) or not axes:
        return result
    return raw.shrink_dims(result, ints(*sorted(axes)))


def _reduction(total: Any, before: Any = None, after: Any = None) -> Any:
    def lowered(call: Call) -> Any:
        x = call.value("x")
        axes = axes_of(call, x)
        value = before(x) if before else x
        value = total(value, ints(*axes)) if axes else value
        return _kept(call, after(value) if after else value, axes)

    return lowered


def _square(x: Any) -> Any:
    return values.mul(x, x)


op("reduce_sum")(_reduction(raw.reduce_sum))
op("reduce_mean")(_reduction(raw.reduce_mean))
op("reduce_max")(_reduction(raw.reduce_max))
op("reduce_min")(_reduction(raw.reduce_min))
op("reduce_prod")(_reduction(raw.reduce_product))
op("reduce_l1_norm")(_reduction(raw.reduce_sum, before=raw.abs_))
op("reduce_l2_norm")(_reduction(raw.reduce_sum, before=_square, after=raw.sqrt))
op("reduce_log_sum")(_reduction(raw.reduce_sum, after=raw.log))
op("reduce_sum_square")(_reduction(raw.reduce_sum, before=_square))


@op("reduce_log_sum_exp")
def reduce_log_sum_exp(call: Call) -> Any:
    x = call.value("x")
    axes = axes_of(call, x)
    largest = raw.reduce_max(x, ints(*axes))
    # An infinite maximum cannot be subtracted.
    finite = raw.broadcasting_greater(*values.same_rank(values.like(x, np.inf), raw.abs_(largest)))
    shift = values.where(finite, largest, values.like(x, 0))
    total = raw.reduce_sum(raw.exp(values.sub(x, shift)), ints(*axes))
    return _kept(call, values.add(raw.log(total), shift), axes)


def _place(call: Call, x: Any) -> Any:
    axis = int(call.number("axis", -1)) % rank(x)
    found = raw.cast(raw.argmax(x, values.index(axis)), call.output_dtype())
    return _kept(call, found, [axis])


@op("reduce_argmax")
def reduce_argmax(call: Call) -> Any:
    return _place(call, call.value("x"))


@op("reduce_argmin")
def reduce_argmin(call: Call) -> Any:
    x = call.value("x")
    return _place(call, values.sub(values.like(x, 0), x))
