"""Constant folding: computes arithmetic on known shapes while a program is lowered.

In a function for one enumerated size every shape is known, but the program computes with shapes all
the same. Without folding, Core AI would know the sizes later than the ops that need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .call import Call
from .values import Array, positive

#: Limit of elements of a folded value: shapes and ranges of steps, but no weights.
_MOST = 4096


def fold(call: Call) -> Array | None:
    """The result of an op on known integers; None if the op cannot be folded."""
    function = _FOLDS.get(call.type)
    names = [name for given in call.operation["inputs"].values() for name in given]
    if function is None or not all(call.lowering.is_known(name) for name in names):
        return None
    given = [call.lowering.literal(name) for name in names]
    numbers = [one for one in given if isinstance(one, np.ndarray)]
    if any(one.dtype.kind not in "iub" or one.size > _MOST for one in numbers):
        return None
    result = np.asarray(function(call))
    return result.astype(call.output_dtype()) if result.size <= _MOST else None


def _each(call: Call, argument: str) -> list[Array]:
    return [np.atleast_1d(call.lowering.literal(name)) for name in call.names(argument)]


def _gather(call: Call) -> Array:
    x, axis = call.array("x"), int(call.number("axis", 0))
    taken: Array = np.take(x, call.array("indices"), axis)
    return taken


def _slice(call: Call) -> Any:
    x = call.array("x")
    masks = [call.array(name) for name in ("begin_mask", "end_mask", "squeeze_mask")]
    opened, ended, gone = (np.zeros(x.ndim, bool) if mask is None else mask for mask in masks)
    begins, ends = (
        [None if mask else int(at) for at, mask in zip(call.array(name), free, strict=True)]
        for name, free in (("begin", opened), ("end", ended))
    )
    steps = [int(step) for step in call.array("stride", np.ones(x.ndim, int))]
    spans = [slice(*bounds) for bounds in zip(begins, ends, steps, strict=True)]
    places = zip(spans, gone, strict=True)
    return x[tuple(span.start or 0 if one else span for span, one in places)]


def _pair(function: Callable[..., Any]) -> Callable[[Call], Any]:
    return lambda call: function(call.array("x"), call.array("y"))


_FOLDS: dict[str, Callable[[Call], Any]] = {
    "add": _pair(np.add),
    "sub": _pair(np.subtract),
    "mul": _pair(np.multiply),
    "floor_div": _pair(np.floor_divide),
    "maximum": _pair(np.maximum),
    "minimum": _pair(np.minimum),
    "less": _pair(np.less),
    "greater": _pair(np.greater),
    "greater_equal": _pair(np.greater_equal),
    "equal": _pair(np.equal),
    "cast": lambda call: call.array("x"),
    "concat": lambda call: np.concatenate(_each(call, "values"), int(call.number("axis"))),
    "stack": lambda call: np.stack(
        [call.lowering.literal(name) for name in call.names("values")], int(call.number("axis"))
    ),
    "expand_dims": lambda call: np.expand_dims(
        call.array("x"), tuple(int(axis) for axis in np.atleast_1d(call.array("axes")))
    ),
    "squeeze": lambda call: np.squeeze(
        call.array("x"),
        None if not call.has("axes") else tuple(positive(call.array("axes"), call.array("x").ndim)),
    ),
    "gather": _gather,
    "slice_by_index": _slice,
    "select": lambda call: np.where(call.array("cond"), call.array("a"), call.array("b")),
    "range_1d": lambda call: np.arange(
        *(int(call.number(name)) for name in ("start", "end", "step"))
    ),
}
