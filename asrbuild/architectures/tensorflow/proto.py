"""TensorFlow's ``GraphDef`` as plain data, read and written without TensorFlow.

Field numbers are from TensorFlow's public ``graph.proto``, ``node_def.proto``, ``tensor.proto``,
``attr_value.proto`` and ``tensor_shape.proto``. Attribute values are Python values: ``bytes``,
``int``, ``float``, ``bool``, ``DType``, ``Shape``, ``Tensor``, or a list of those. References to
functions, and placeholders for attributes, are kept as ``Opaque``.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base import protobuf as wire
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.protobuf import BYTES, FIXED32, FIXED64, VARINT, Pieces, WireError

_DTYPES: dict[int, tuple[str, type[np.generic] | None]] = {
    1: ("float32", np.float32),
    2: ("float64", np.float64),
    3: ("int32", np.int32),
    4: ("uint8", np.uint8),
    5: ("int16", np.int16),
    6: ("int8", np.int8),
    7: ("string", None),
    8: ("complex64", np.complex64),
    9: ("int64", np.int64),
    10: ("bool", np.bool_),
    14: ("bfloat16", None),
    17: ("uint16", np.uint16),
    18: ("complex128", np.complex128),
    19: ("float16", np.float16),
    20: ("resource", None),
    22: ("uint32", np.uint32),
    23: ("uint64", np.uint64),
}
# TensorProto's typed value fields: field number -> (element type on the wire, its wire type).
_VALUE_FIELDS: dict[int, tuple[np.dtype[Any] | None, int]] = {
    5: (np.dtype("<f4"), FIXED32),
    6: (np.dtype("<f8"), FIXED64),
    7: (None, VARINT),
    9: (np.dtype("<f4"), FIXED32),  # complex64: real and imaginary parts in turn
    10: (None, VARINT),
    11: (None, VARINT),
    12: (np.dtype("<f8"), FIXED64),  # complex128
    13: (None, VARINT),
    16: (None, VARINT),
    17: (None, VARINT),
}
_STRING_VALUES = 8
_VERSION_NUMBER = 3


@dataclass(frozen=True)
class DType:
    """A TensorFlow element type, by its number in ``types.proto``."""

    number: int

    @property
    def name(self) -> str:
        """TensorFlow's name of the type, such as ``float32``."""
        return _DTYPES[self.number][0] if self.number in _DTYPES else f"dtype {self.number}"

    @property
    def numpy(self) -> np.dtype[Any] | None:
        """The numpy type; None for strings and types that numpy lacks."""
        known = _DTYPES.get(self.number)
        return None if known is None or known[1] is None else np.dtype(known[1])

    @staticmethod
    def of(dtype: np.dtype[Any] | type) -> DType:
        """The TensorFlow type for a numpy type."""
        wanted = np.dtype(dtype)
        for number, (_, numpy_type) in _DTYPES.items():
            if numpy_type is not None and np.dtype(numpy_type) == wanted:
                return DType(number)
        raise ValueError(f"TensorFlow has no type for {wanted}")


FLOAT, INT32, INT64, BOOL, STRING = DType(1), DType(3), DType(9), DType(10), DType(7)


@dataclass(frozen=True)
class Shape:
    """A tensor's dimensions; None for an unknown one, ``dims=None`` for an unknown rank."""

    dims: tuple[int | None, ...] | None

    @property
    def known(self) -> tuple[int, ...] | None:
        """The dimensions; None if the rank or one of them is unknown."""
        sizes = tuple(dim for dim in self.dims or () if dim is not None)
        return None if self.dims is None or len(sizes) < len(self.dims) else sizes

    def __str__(self) -> str:
        if self.dims is None:
            return "unknown"
        return "[" + ", ".join("?" if dim is None else str(dim) for dim in self.dims) + "]"


@dataclass(frozen=True)
class Tensor:
    """A constant: its type, shape, and either raw little-endian bytes or typed values.

    ``values`` may be shorter than the shape: TensorFlow repeats the last one.
    """

    dtype: DType
    shape: tuple[int, ...]
    content: memoryview | bytes = b""
    values: tuple[object, ...] | Array = ()

    @property
    def nbytes(self) -> int:
        """The number of bytes of the raw values."""
        return len(self.content)

    def array(self) -> Array:
        """The values, of shape ``self.shape``; a read-only view if they are stored as raw bytes."""
        count = int(np.prod(self.shape, dtype=np.int64))
        if self.dtype == STRING:
            if len(self.values) != count:
                raise WireError(f"{len(self.values)} texts for {list(self.shape)}")
            return np.array(list(self.values), dtype=object).reshape(self.shape)
        if self.dtype.numpy is None:
            raise WireError(f"constants of type {self.dtype.name} are not supported")
        if len(self.content):
            if len(self.content) != count * self.dtype.numpy.itemsize:
                raise WireError(f"{len(self.content)} bytes do not fill {list(self.shape)}")
            array = np.frombuffer(self.content, self.dtype.numpy.newbyteorder("<"))
            return array.reshape(self.shape)
        try:
            return self._filled(count)
        except OverflowError as error:
            raise WireError(f"a value is out of range: {error}") from error

    def _filled(self, count: int) -> Array:
        """``count`` typed values, the last one repeated."""
        dtype = self.dtype.numpy
        assert dtype is not None
        given = np.asarray(self.values)
        if dtype == np.float16:
            given = given.astype(np.uint16).view(np.float16)
        elif dtype.kind == "c":
            parts = np.float32 if dtype == np.complex64 else np.float64
            given = given.astype(parts).view(dtype)
        if len(given) > count:
            raise WireError(f"{len(given)} values for {list(self.shape)}")
        filled = np.zeros(count, dtype)
        if len(given):
            filled[: len(given)] = given
            filled[len(given) :] = given[-1]
        return filled.reshape(self.shape)


@dataclass(frozen=True)
class Opaque:
    """An attribute kept as its bytes."""

    payload: bytes


AttrValue = bytes | int | float | bool | DType | Shape | Tensor | Opaque | list[Any]


@dataclass(frozen=True)
class Node:
    """One operation. Inputs are ``name``, ``name:index``, or ``^name`` for control."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: dict[str, AttrValue] = field(default_factory=dict)
    device: str = ""

    @property
    def value(self) -> Array:
        """The value of a ``Const``."""
        tensor = self.attrs["value"]
        if not isinstance(tensor, Tensor):
            raise WireError(f"constant {self.name} has no value")
        return tensor.array()


@dataclass(frozen=True)
class Graph:
    """A frozen graph: nodes in file order, and the version of TensorFlow that made it.

    ``library`` is the ``FunctionDefLibrary`` message of a TensorFlow 2 graph.
    """

    nodes: tuple[Node, ...]
    producer: int = 0
    nbytes: int = 0
    path: Path | None = None
    library: memoryview | bytes = field(default=b"", repr=False)
    by_name: dict[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {node.name: node for node in self.nodes})

    @functools.cached_property
    def functions(self) -> dict[str, tuple[Node, ...]]:
        """Function of the library -> its nodes.

        Raises:
            AsrbuildError: the library is damaged.
        """
        try:
            return dict(_read_functions(memoryview(self.library)))
        except (ValueError, TypeError, struct.error) as error:
            raise AsrbuildError(
                f"the graph's function library is damaged: {error}", file=self.path
            ) from error


def input_name(reference: str) -> str:
    """``^name`` or ``name:2`` -> ``name``."""
    return reference.lstrip("^").split(":")[0]


def upstream(graph: Graph, outputs: Iterable[str]) -> set[str]:
    """Names of the outputs and of all nodes that they depend on, as far as the graph has them."""
    seen: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = input_name(waiting.pop())
        if name not in seen and name in graph.by_name:
            seen.add(name)
            waiting += graph.by_name[name].inputs
    return seen


def _read_functions(library: memoryview) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """Yields ``signature.name`` and ``node_def`` of each ``FunctionDefLibrary.function``."""
    for number, _, definition in wire.read_fields(library):
        if number != 1:
            continue
        name = ""
        nodes: list[Node] = []
        for inner, _, value in wire.read_fields(wire.payload(definition)):
            if inner == 1:
                signature = wire.read_fields(wire.payload(value))
                names = [str(wire.payload(part), "utf-8") for at, _, part in signature if at == 1]
                name = names[0] if names else ""
            elif inner == 3:
                nodes.append(read_node(wire.payload(value)))
        yield name, tuple(nodes)


def called_function(value: AttrValue) -> str | None:
    """The function that an attribute names (``AttrValue.func``); None if it names none."""
    if not isinstance(value, Opaque):
        return None
    for number, kind, reference in wire.read_fields(memoryview(value.payload)):
        if number == 10 and kind == BYTES:
            for inner, _, name in wire.read_fields(wire.payload(reference)):
                if inner == 1:
                    return str(wire.payload(name), "utf-8")
    return None


def read_node(data: memoryview) -> Node:
    """Reads a ``NodeDef`` message."""
    name = op = device = ""
    inputs: list[str] = []
    attrs: dict[str, AttrValue] = {}
    for number, kind, field_value in wire.read_fields(data):
        if kind != BYTES:
            raise WireError(f"NodeDef field {number} has wire type {kind}")
        value = wire.payload(field_value)
        if number == 1:
            name = str(value, "utf-8")
        elif number == 2:
            op = str(value, "utf-8")
        elif number == 3:
            inputs.append(str(value, "utf-8"))
        elif number == 4:
            device = str(value, "utf-8")
        elif number == 5:
            entry = {inner: part for inner, _, part in wire.read_fields(value)}
            key = str(wire.payload(entry.get(1, memoryview(b""))), "utf-8")
            attrs[key] = _read_attr(wire.payload(entry.get(2, memoryview(b""))))
    return Node(name, op, tuple(inputs), attrs, device)


def _read_attr(data: memoryview) -> AttrValue:
    for number, kind, value in wire.read_fields(data):
        if number == 1:
            return _read_list(wire.payload(value))
        return _read_scalar(number, kind, value, bytes(data) if len(data) < 4096 else b"")
    return Opaque(b"")


def _read_scalar(number: int, kind: int, value: int | memoryview, whole: bytes) -> AttrValue:
    if number == 2:
        return bytes(wire.payload(value))
    if number == 3:
        return wire.signed(int(value))
    if number == 4 and kind == FIXED32:
        return float(struct.unpack("<f", wire.payload(value))[0])
    if number == 5:
        return bool(value)
    if number == 6:
        return DType(int(value))
    if number == 7:
        return _read_shape(wire.payload(value))
    if number == 8:
        return _read_tensor(wire.payload(value))
    return Opaque(whole)


def _read_list(data: memoryview) -> list[AttrValue]:
    items: list[AttrValue] = []
    for number, kind, value in wire.read_fields(data):
        if number in (3, 5, 6):
            make = {3: int, 5: bool, 6: DType}[number]
            items += [make(item) for item in wire.read_packed(value)]
        elif number == 4:
            items += [float(item) for item in np.frombuffer(wire.payload(value), "<f4")]
        else:
            items.append(_read_scalar(number, kind, value, b""))
    return items


def _read_shape(data: memoryview) -> Shape:
    dims: list[int | None] = []
    for number, _, value in wire.read_fields(data):
        if number == 3 and value:
            return Shape(None)
        if number == 2:
            dim = wire.read_fields(wire.payload(value))
            sizes = [wire.signed(int(v)) for inner, _, v in dim if inner == 1]
            size = sizes[0] if sizes else 0
            dims.append(None if size < 0 else size)
    return Shape(tuple(dims))


def _read_tensor(data: memoryview) -> Tensor:
    dtype, shape = DType(0), Shape(())
    content: memoryview | bytes = b""
    values: list[object] = []
    for number, kind, value in wire.read_fields(data):
        if number == 1:
            dtype = DType(int(value))
        elif number == 2:
            shape = _read_shape(wire.payload(value))
        elif number == 4:
            content = wire.payload(value)
        elif number == _STRING_VALUES:
            values.append(bytes(wire.payload(value)))
        elif number in _VALUE_FIELDS:
            element, single = _VALUE_FIELDS[number]
            if element is None:
                values += wire.read_packed(value)
            elif kind in (BYTES, single):
                values += np.frombuffer(wire.payload(value), element).tolist()
        elif number != _VERSION_NUMBER:
            raise WireError(f"a constant with values of a kind not supported (field {number})")
    if (sizes := shape.known) is None:
        raise WireError("a constant of unknown shape")
    return Tensor(dtype, sizes, content, tuple(values))


def constant(array: Array) -> Tensor:
    """A tensor that shares an array's memory, or has one element of ``bytes``."""
    if array.dtype == object:
        return Tensor(STRING, array.shape, values=tuple(array.ravel().tolist()))
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    # memoryview.cast does not support a zero in the shape.
    content = array.data.cast("B") if array.size else b""
    return Tensor(DType.of(array.dtype), array.shape, content)


def write_graph(graph: Graph, destination: Path) -> None:
    """Writes a graph, with the same bytes for the same graph.

    Raises:
        AsrbuildError: the file cannot be written.
    """
    try:
        with Path(destination).open("wb") as file:
            for piece in graph_pieces(graph.nodes, graph.producer):
                file.write(piece)
    except OSError as error:
        problem = f"cannot write the graph: {error.strerror}"
        raise AsrbuildError(problem, file=destination) from error


def graph_pieces(nodes: Iterable[Node], producer: int) -> Iterable[bytes | memoryview]:
    """Yields the pieces of the ``GraphDef`` message in order."""
    for node in nodes:
        yield from wire.message_field(1, _node_pieces(node))
    if producer:
        yield from wire.message_field(4, [wire.int_field(1, producer)])


def _node_pieces(node: Node) -> Pieces:
    pieces: Pieces = []
    for number, text in [(1, node.name), (2, node.op), *((3, name) for name in node.inputs)]:
        pieces += wire.bytes_field(number, text.encode())
    if node.device:
        pieces += wire.bytes_field(4, node.device.encode())
    for key in sorted(node.attrs):
        entry = wire.bytes_field(1, key.encode())
        entry += wire.message_field(2, _attr_pieces(node.attrs[key]))
        pieces += wire.message_field(5, entry)
    return pieces


def _attr_pieces(value: AttrValue) -> Pieces:
    if isinstance(value, Opaque):
        return [value.payload]
    if isinstance(value, list):
        return wire.message_field(1, [piece for item in value for piece in _attr_pieces(item)])
    if isinstance(value, bytes):
        return wire.bytes_field(2, value)
    if isinstance(value, bool):
        return [wire.int_field(5, value)]
    if isinstance(value, int):
        return [wire.int_field(3, value)]
    if isinstance(value, float):
        return [wire.float_field(4, value)]
    if isinstance(value, DType):
        return [wire.int_field(6, value.number)]
    if isinstance(value, Shape):
        return wire.message_field(7, _shape_pieces(value))
    return wire.message_field(8, _tensor_pieces(value))


def _shape_pieces(shape: Shape) -> Pieces:
    if shape.dims is None:
        return [wire.int_field(3, 1)]
    pieces: Pieces = []
    for dim in shape.dims:
        pieces += wire.message_field(2, [wire.int_field(1, -1 if dim is None else dim)])
    return pieces


def _tensor_pieces(tensor: Tensor) -> Pieces:
    pieces: Pieces = [wire.int_field(1, tensor.dtype.number)]
    pieces += wire.message_field(2, _shape_pieces(Shape(tensor.shape)))
    if tensor.dtype == STRING:
        for item in tensor.values:
            assert isinstance(item, bytes)
            pieces += wire.bytes_field(_STRING_VALUES, item)
        return pieces
    content = tensor.content
    if not len(content):
        array = tensor.array()
        content = array.tobytes()
    return pieces + wire.bytes_field(4, content)
