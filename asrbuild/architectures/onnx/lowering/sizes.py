"""Arithmetic on sizes of axes at conversion, so that little of it runs on the device.

Exporters compute shapes with chains of ``Shape``, ``Gather``, ``Mul``, ``Concat``. Without an open
axis the result becomes a constant; otherwise it is an expression until an op requires it as a
tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy

from asrbuild.architectures.onnx.graph import Node
from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.values import (
    ENDLESS,
    Value,
    Var,
    as_sizes,
    is_known,
    is_open,
    is_sizes,
    same_size,
    settled,
)
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError


class SizeOps:
    """Writes expressions of open axes as ops, each only once."""

    def __init__(self) -> None:
        self.places: dict[Any, tuple[Var, int]] = {}
        self.written: dict[Any, Any] = {}

    def note(self, value: Value) -> None:
        """Records the tensor and axis of an open size."""
        for axis, size in enumerate(getattr(value, "shape", None) or ()):
            if is_open(size):
                self.places.setdefault(size, (value, axis))

    def vector(self, sizes: Array) -> Any:
        """Sizes as an int32 tensor of their shape."""
        if not any(map(is_open, sizes.ravel())):
            return sizes.astype(np.int32)
        numbers = [self.number(size) for size in sizes.ravel()]
        if sizes.ndim == 0:
            return numbers[0]
        rows = [
            mb.expand_dims(x=one, axes=[0]) if is_var(one) else np.array([one], np.int32)
            for one in numbers
        ]
        joined = rows[0] if len(rows) == 1 else mb.concat(values=rows, axis=0)
        return joined if sizes.ndim == 1 else mb.reshape(x=joined, shape=sizes.shape)

    def number(self, size: Any) -> Any:
        """One size: an int32, or a scalar ``Var``."""
        if not is_open(size):
            return np.int32(size)
        if size not in self.written:
            self.written[size] = self._write(size)
        return self.written[size]

    def _write(self, size: Any) -> Any:
        if size in self.places:
            value, axis = self.places[size]
            return mb.gather(x=mb.shape(x=value), indices=np.int32(axis), axis=0)
        inner = size.args[0] if isinstance(size, sympy.floor) else size
        above, below = sympy.fraction(sympy.together(inner))
        if below != 1:  # sizes outside of floor() have no remainder
            return mb.floor_div(x=self.number(sympy.expand(above)), y=np.int32(int(below)))
        if isinstance(size, (sympy.Add, sympy.Mul)):
            join = mb.add if isinstance(size, sympy.Add) else mb.mul
            parts = sorted(map(self.number, size.args), key=is_var, reverse=True)
            return functools.reduce(lambda x, y: join(x=x, y=y), parts)
        raise AsrbuildError(
            f"the size {size} of an axis is known only inside of the network",
            key="model.axes",
            fix="choose a fixed length: model=static",
        )


def is_var(value: Any) -> bool:
    """Whether a value is a MIL ``Var``, not a number."""
    return not isinstance(value, (int, np.ndarray, np.generic, sympy.Basic))


def compute(node: Node, inputs: Sequence[Value]) -> Array | None:
    """The result of a node on sizes and known values; None if it must become an op."""
    given = [value for value in inputs if value is not None]
    if node.op in ("Shape", "Size") and given:
        return _shape(node, given[0])
    rule = _RULES.get(node.op)
    if rule is None or not any(map(is_sizes, given)):
        return None
    if not all(is_sizes(value) or is_known(value) for value in given):
        return None
    made = rule(node.attributes, *inputs)
    if made is None:
        return None
    array = np.asarray(made)  # numpy returns the element of an array without axes
    return array if array.dtype == bool else settled(array.astype(object))


def _shape(node: Node, value: Value) -> Array:
    sizes = list(value.shape)
    if node.op == "Size":
        return as_sizes([sympy.prod(sizes)]).reshape(())
    return as_sizes(sizes[node.attributes.get("start", 0) : node.attributes.get("end")])


def _axes(attributes: Mapping[str, Any], value: Array | None) -> tuple[int, ...] | None:
    if "axes" in attributes:
        return tuple(attributes["axes"])
    return None if value is None else tuple(int(axis) for axis in value)


def _divide(attributes: Mapping[str, Any], x: Array, y: Array) -> Array:
    floors = np.frompyfunc(lambda one, other: sympy.floor(sympy.sympify(one) / other), 2, 1)
    return np.asarray(floors(x, y), object)


def _slice(
    attributes: Mapping[str, Any],
    x: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array | None:
    first = attributes["starts"] if starts is None else starts
    last = attributes["ends"] if ends is None else ends
    if x.ndim != 1 or is_sizes(first) or is_sizes(last):
        return None
    step = 1 if steps is None else int(steps[0])
    end = int(last[0])
    return x[slice(int(first[0]), None if abs(end) >= ENDLESS else end, step)]


def _equal(attributes: Mapping[str, Any], x: Array, y: Array) -> Array | None:
    """Whether sizes are equal; None if that depends on the length of a call."""

    def equal(one: Any, other: Any) -> bool | None:
        if same_size(one, other):
            return True
        fixed = [int(size) for size in (one, other) if not is_open(size)]
        open_ones = [size for size in (one, other) if is_open(size)]
        least = min(fixed, default=1)
        certain = not open_ones or (isinstance(open_ones[0], sympy.Symbol) and least < 1)
        return False if certain else None

    made = np.asarray(np.frompyfunc(equal, 2, 1)(x, y), object)
    return None if any(one is None for one in made.ravel()) else made.astype(bool)


def _where(attributes: Mapping[str, Any], condition: Array, x: Array, y: Array) -> Array | None:
    return None if is_sizes(condition) else np.where(condition, x, y)


def _product(attributes: Mapping[str, Any], x: Array, axes: Array | None = None) -> Array | None:
    if x.ndim != 1:
        return None
    return np.array(sympy.prod(list(x)), object).reshape((1,) * attributes.get("keepdims", 1))


_RULES: dict[str, Callable[..., Array | None]] = {
    "Add": lambda attributes, x, y: x + y,
    "Sub": lambda attributes, x, y: x - y,
    "Mul": lambda attributes, x, y: x * y,
    "Div": _divide,
    "Neg": lambda attributes, x: -x,
    "Equal": _equal,
    "Where": _where,
    "Identity": lambda attributes, x: x,
    # A float only where an op requires it: shapes are integers.
    "Cast": lambda attributes, x: x if attributes["to"] in (6, 7) else None,
    "Gather": lambda attributes, x, at: (
        None if is_sizes(at) else np.take(x, at.astype(int), attributes.get("axis", 0))
    ),
    "Concat": lambda attributes, *parts: np.concatenate(parts, attributes["axis"]),
    "Unsqueeze": lambda attributes, x, axes=None: np.expand_dims(x, _axes(attributes, axes) or ()),
    "Squeeze": lambda attributes, x, axes=None: np.squeeze(x, _axes(attributes, axes)),
    "Reshape": lambda attributes, x, shape: (
        None if is_sizes(shape) else x.reshape([int(size) for size in shape])
    ),
    "Slice": _slice,
    "ReduceProd": _product,
}
