"""Element-wise ops of two tensors, broadcast: ``tensor<*, T>, tensor<*, T> -> tensor<*, T>``.

Source: "elementwise_binary" in the MIL reference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.registry import mil_op


def _register(
    name: str, function: Callable[[Array, Array], Array], meaning: str, result: str
) -> None:
    def run(x: Array, y: Array) -> Array:
        return function(x, y)

    run.__name__ = name
    run.__doc__ = f"``{meaning}``: ``tensor<*, T>, tensor<*, T> -> tensor<*, {result}>``."
    mil_op(name, arithmetic=True)(run)


for _name, _function, _meaning, _result in (
    ("add", np.add, "x + y", "T"),
    ("sub", np.subtract, "x - y", "T"),
    ("mul", np.multiply, "x * y", "T"),
    ("maximum", np.maximum, "max(x, y)", "T"),
    ("minimum", np.minimum, "min(x, y)", "T"),
    ("pow", np.power, "x ^ y", "T"),
    ("equal", np.equal, "x == y", "bool"),
    ("not_equal", np.not_equal, "x != y", "bool"),
    ("greater", np.greater, "x > y", "bool"),
    ("greater_equal", np.greater_equal, "x >= y", "bool"),
    ("less", np.less, "x < y", "bool"),
    ("less_equal", np.less_equal, "x <= y", "bool"),
    ("logical_and", np.logical_and, "x and y", "bool"),
    ("logical_or", np.logical_or, "x or y", "bool"),
    ("logical_xor", np.logical_xor, "x xor y", "bool"),
):
    _register(_name, _function, _meaning, _result)


@mil_op("real_div", arithmetic=True)
def real_div(x: Array, y: Array) -> Array:
    """``x / y``; integers divide towards zero: ``tensor<*, T>, tensor<*, T> -> tensor<*, T>``."""
    if np.issubdtype(x.dtype, np.integer):
        _refuse_zero(y)
        return np.trunc(np.divide(x, y, dtype=np.float64)).astype(x.dtype)
    return np.divide(x, y)


@mil_op("floor_div", arithmetic=True)
def floor_div(x: Array, y: Array) -> Array:
    """Quotient rounded down: ``tensor<*, T>, tensor<*, T> -> tensor<*, T>``."""
    if np.issubdtype(x.dtype, np.integer):
        _refuse_zero(y)
    return np.floor_divide(x, y)


@mil_op("mod", arithmetic=True)
def mod(x: Array, y: Array) -> Array:
    """Remainder with the sign of ``y``: ``tensor<*, T>, tensor<*, T> -> tensor<*, T>``."""
    if np.issubdtype(x.dtype, np.integer):
        _refuse_zero(y)
    return np.mod(x, y)


def _refuse_zero(y: Array) -> None:
    if not np.all(y):
        raise ZeroDivisionError("integer division by zero")
