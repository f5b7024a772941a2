"""The values of tensors of an ONNX graph during the lowering.

- known: a numpy array, of a constant or computed from constants;
- sizes: a numpy array of objects, integers and sympy expressions of the program's open axes, of a
``Shape`` or computed from one;
- a MIL ``Var``: known at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy

from asrbuild.base.array import Array

Value = Any
Var = Any
_INT32 = np.iinfo(np.int32)
#: ONNX slices to the end of an axis with the largest int64, or int32.
ENDLESS = int(_INT32.max)


def is_known(value: Value) -> bool:
    """Whether a value is a numpy array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype != object


def is_sizes(value: Value) -> bool:
    """Whether a value consists of sizes of axes."""
    return isinstance(value, np.ndarray) and value.dtype == object


def is_open(size: Any) -> bool:
    """Whether a size is an expression of open axes."""
    return isinstance(size, sympy.Basic) and not size.is_Integer


def same_size(one: Any, other: Any) -> bool:
    """Whether two sizes are equal at every length of the open axes."""
    return bool(sympy.expand(sympy.sympify(one) - other) == 0)


def as_sizes(sizes: Sequence[Any]) -> Array:
    """A vector of sizes: of objects if one is open, else int64."""
    made = np.empty(len(sizes), object)
    made[:] = [size if is_open(size) else int(size) for size in sizes]
    return settled(made)


def settled(sizes: Array) -> Array:
    """Sizes as int64, if none is open."""
    return sizes if any(map(is_open, sizes.ravel())) else sizes.astype(np.int64)


def narrow(array: Array) -> Array:
    """A known array in a type of MIL: int32, float32 or bool.

    ONNX counts in int64; only ends of slices do not fit int32.
    """
    if array.dtype.kind in "iu":
        return np.clip(array, _INT32.min, _INT32.max).astype(np.int32)
    if array.dtype.kind == "b":
        return array
    return np.ascontiguousarray(array, np.float32).reshape(array.shape)


def is_integer(value: Value) -> bool:
    """Whether a known array or ``Var`` has integers."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind in "iu"
    return "int" in value.dtype.__name__


def is_boolean(value: Value) -> bool:
    """Whether a known array or ``Var`` has truth values."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind == "b"
    return bool(value.dtype.__name__ == "bool")


def type_name(value: Var) -> str:
    """The name of a ``Var``'s type in the op ``cast``."""
    name = str(value.dtype.__name__)
    return "int32" if name == "int" else name


def scalar(like: Value, number: float) -> np.generic:
    """A number in the type of ``like``."""
    return np.int32(number) if is_integer(like) else np.float32(number)
