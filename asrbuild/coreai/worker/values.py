"""Values of a Core AI program: constants, shapes, types, and operations that several ops share."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from .apple import (
    DenseElementsAttr,
    DenseResourceElementsAttr,
    authoring,
    bit_type,
    raw,
    tensor_type,
)

Array = np.ndarray[Any, Any]
#: Constants with more elements are blobs with names of their own; coreai-core would number them at
#: random.
_INLINE = 16
_ELEMENTS = {
    "f32": np.float32,
    "f16": np.float16,
    "i1": np.bool_,
    "si8": np.int8,
    "si16": np.int16,
    "si32": np.int32,
    "ui8": np.uint8,
    "ui16": np.uint16,
    "ui32": np.uint32,
}
_PACKED = {
    "int4": (authoring.int4, 4),
    "uint4": (authoring.uint4, 4),
    "uint2": (authoring.uint2, 2),
}
_blobs: dict[str, Any] = {}
#: Identity of an array -> its attribute, and the array in C order: functions share constants.
_written: dict[Any, tuple[Any, Array]] = {}
#: Columns of a matrix that are transposed at once: with 64 it takes 2.3 times as long.
_STRIP = 16
#: Constant -> its array. coreai-core would number a value that it folds from a blob at random.
_arrays: dict[Any, Array] = {}
#: An end of a slice beyond any axis.
END = 2**31 - 1


def const(array: Any) -> Any:
    """A constant of a numpy array."""
    array = np.asarray(array)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    if array.size <= _INLINE:
        return raw.constant(array.copy())
    if array.dtype == np.bool_:
        # Blobs of single bits have another layout.
        return raw.cast(const(array.astype(np.uint8)), np.bool_)
    place = _place(array)
    if place is None or place not in _written:
        array = _in_order(array)
        attribute = _attribute(array, list(array.shape), array.dtype.type)
        if place is not None:
            _written[place] = attribute, array
    else:
        attribute, array = _written[place]
    value = raw.ConstantOp(value=attribute).result
    _arrays[value] = array
    return value


def _place(array: Array) -> Any:
    """The identity of an array of the hand-over; None for any other array."""
    base = array.base
    while isinstance(base, np.ndarray | memoryview):
        base = base.obj if isinstance(base, memoryview) else base.base
    if not isinstance(base, mmap.mmap):
        return None
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _in_order(array: Array) -> Array:
    """An array in C order; a matrix is transposed in strips that fit a processor's cache."""
    if array.ndim != 2 or array.flags.c_contiguous:
        return np.ascontiguousarray(array)
    turned = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], _STRIP):
        turned[:, start : start + _STRIP] = array[:, start : start + _STRIP]
    return turned


def packed(array: Array, dtype: str) -> Any:
    """A constant of elements below a byte, from an array with a byte each; low bits come first."""
    kind, bits = (bit_type(), 1) if dtype == "uint1" else _PACKED[dtype]
    per_byte = 8 // bits
    flat = array.reshape(-1).astype(np.uint8) & ((1 << bits) - 1)
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = flat
    parts = [padded[n::per_byte] << (bits * n) for n in range(per_byte)]
    attribute = _attribute(np.bitwise_or.reduce(parts), list(array.shape), kind)
    return raw.ConstantOp(value=attribute).result


def is_packed(dtype: str) -> bool:
    """Whether Core AI stores elements of this type in less than a byte."""
    return dtype in _PACKED


def _attribute(data: Array, shape: list[int], dtype: Any) -> Any:
    """A blob named by the digest of its bytes and type, stored once in a module."""
    data = np.ascontiguousarray(data)
    data.flags.writeable = False
    kind = tensor_type(shape, dtype)
    digest = hashlib.sha256(f"{kind}".encode())
    digest.update(data.data)
    name = f"constant_{digest.hexdigest()[:32]}"
    if name not in _blobs:
        _blobs[name] = DenseResourceElementsAttr.get_from_buffer(data, name, kind)
    return _blobs[name]


def forget_blobs() -> None:
    """Starts a new module, which must have its own blobs."""
    _blobs.clear()
    _arrays.clear()
    _written.clear()


def ints(*values: int) -> Any:
    """A vector of int32 as an inline constant, which ops read while they are built."""
    return _inline(np.array(values, np.int32))


def index(value: int) -> Any:
    """A vector with one int32."""
    return const(np.array(value, np.int32))


def _inline(array: Array) -> Any:
    return raw.ConstantOp(value=DenseElementsAttr.get(array, signless=False)).result


def unsigned(*values: int) -> Any:
    """A vector of uint32 as an inline constant."""
    return _inline(np.array(values, np.uint32))


def dims(value: Any) -> list[int | None]:
    """The sizes of a value; None for an unknown size."""
    return [size if size >= 0 else None for size in value.type.shape]


def rank(value: Any) -> int:
    """The number of a value's axes."""
    return len(value.type.shape)


def dtype_of(value: Any) -> Any:
    """A value's numpy type."""
    return _ELEMENTS[str(value.type.element_type)]


def like(value: Any, number: Any) -> Any:
    """A constant of a value's type."""
    return const(np.asarray(number).astype(dtype_of(value)))


def shape_of(value: Any) -> Any:
    """The sizes of a value at run time, int32."""
    return raw.cast(raw.get_shape(value), np.int32)


def size_of(value: Any, axis: int) -> Any:
    """A vector with the size of one axis at run time."""
    return raw.slice_(shape_of(value), ints(axis), ints(axis + 1), ints(1))


def reshaped(value: Any, sizes: Sequence[int | None]) -> Any:
    """Reshapes a value; one size may be None, and is then inferred."""
    return raw.reshape(value, ints(*(-1 if size is None else size for size in sizes)))


def with_rank(value: Any, wanted: int) -> Any:
    """Prepends axes of size 1 to a value."""
    missing = wanted - rank(value)
    if missing <= 0:
        return value
    if value in _arrays:
        return const(_arrays[value].reshape([1] * missing + dims(value)))
    return raw.expand_dims(value, ints(*range(missing)))


def scalar(value: Any) -> Any:
    """A value of one element without its axes."""
    return raw.shrink_dims(value, ints(*range(rank(value)))) if rank(value) else value


def positive(axes: Any, of_rank: int) -> list[int]:
    """Axes as numbers from the first axis."""
    return [int(axis) % of_rank for axis in np.atleast_1d(axes)]


def add(x: Any, y: Any) -> Any:
    """The sum of two values, broadcast."""
    return raw.broadcasting_add(*same_rank(x, y))


def sub(x: Any, y: Any) -> Any:
    """The difference of two values, broadcast."""
    return raw.broadcasting_sub(*same_rank(x, y))


def mul(x: Any, y: Any) -> Any:
    """The product of two values, broadcast."""
    return raw.broadcasting_mul(*same_rank(x, y))


def divide(x: Any, y: Any) -> Any:
    """The quotient of two values, broadcast."""
    return raw.broadcasting_divide(*same_rank(x, y))


def same_rank(*values: Any) -> list[Any]:
    """The values with the rank of the one that has the most axes.

    Core AI compiles a broadcast of a dynamic vector with a matrix to a wrong reshape.
    """
    most = max(map(rank, values))
    return [with_rank(value, most) for value in values]


def where(condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` where the condition holds, else ``no``, broadcast."""
    return raw.broadcasting_where(*same_rank(condition, yes, no))


def cut(value: Any, axis: int, start: int, end: int) -> Any:
    """The slice of a value from ``start`` to ``end`` of one axis."""
    count = rank(value)
    first, last = [0] * count, [END] * count
    first[axis], last[axis] = start, end
    return raw.slice_(value, ints(*first), ints(*last), ints(*[1] * count))


def hidden_zero(value: Any) -> Any:
    """Zero, (1,) int32, computed from a value so that the compiler cannot fold it."""
    count = rank(value)
    one = raw.slice_(value, ints(*[0] * count), ints(*[1] * count), ints(*[1] * count))
    return reshaped(raw.cast(raw.broadcasting_greater(one, one), np.int32), [1])


def of_unknown_length(value: Any, zero: Any) -> Any:
    """A value whose first size the compiler does not know.

    In loops over tensors of known sizes the runtime overlays tensors that are still read.
    """
    sizes = dims(value)
    if len(sizes) < 2 or sizes[0] is None:
        return value
    ends = [add(ints(sizes[0]), zero), ints(*[END] * (len(sizes) - 1))]
    end = raw.concat(index(0), ends)
    cut = raw.slice_(value, ints(*[0] * len(sizes)), end, ints(*[1] * len(sizes)))
    return reshaped(cut, [None, *sizes[1:]]) if None not in sizes[1:] else cut
