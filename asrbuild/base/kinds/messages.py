"""The kind of a protobuf message by its outline: a graph, a Core ML or an ONNX model."""

from __future__ import annotations

import mmap
import re

from asrbuild.base.protobuf import BYTES, FIXED32, FIXED64, VARINT, WireError, read_varint

#: Number of top-level fields that are read; a graph has one for each node.
_MOST_FIELDS = 20_000
MEMORY_MAPPED = b"memmapped_package://"
_VARIABLES = frozenset({b"Variable", b"VariableV2", b"VarHandleOp", b"AutoReloadVariable"})
_OP_NAME = re.compile(rb"[A-Za-z_][\w>.]{0,200}\Z")


Fields = list[tuple[int, int, "int | memoryview"]]


def message_kind(data: mmap.mmap) -> str | None:
    """The key of a message's kind; None if it is none of these messages."""
    if data[:1] not in (b"\n", b"\x08", b"\x12", b"\x22"):
        return None
    # Views are released, so that the map can be closed.
    with memoryview(data) as view:
        fields = _outline(view)
        try:
            if not fields:
                return None
            return _numbered(fields) if fields[0][:2] == (1, VARINT) else _graph(fields)
        finally:
            for _, _, value in fields:
                if isinstance(value, memoryview):
                    value.release()


def _outline(data: memoryview, most: int = _MOST_FIELDS) -> Fields:
    """Fields up to the first fault or the end; the last one may be cut off."""
    found: Fields = []
    at = 0
    try:
        while at < len(data) and len(found) < most:
            tag, at = read_varint(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                value, at = read_varint(data, at)
                found.append((number, kind, value))
                continue
            size = {FIXED32: 4, FIXED64: 8}.get(kind, -1)
            if kind == BYTES:
                size, at = read_varint(data, at)
            if number == 0 or size < 0:
                break
            found.append((number, kind, data[at : at + size]))
            at += size
    except WireError:
        pass
    return found


def _numbered(fields: Fields) -> str | None:
    """A message that begins with a version: Core ML, ONNX or SavedModel."""
    numbers = {number for number, _, _ in fields}
    if any(200 <= number <= 3000 for number in numbers):
        return "mlmodel"
    if numbers & {7, 8} and numbers <= {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}:
        return "onnx"
    if numbers == {1, 2} and all(kind == BYTES for number, kind, _ in fields if number == 2):
        inner = _outline(_bytes(fields[1][2]), 8)
        if inner and inner[0][:2] == (1, BYTES) and _graph(inner) == "meta-graph":
            return "saved-model-file"
        return "mlmodel" if inner and inner[0][0] in (1, 10, 100) else None
    return None


def _graph(fields: Fields) -> str | None:
    """GraphDef or MetaGraphDef."""
    number, kind, value = fields[0]
    if number == 1 and kind == BYTES:
        if _node_op(_bytes(value)) is not None:
            ops = (_node_op(_bytes(v)) for n, k, v in fields if n == 1 and k == BYTES)
            return "graph-unfrozen" if any(op in _VARIABLES for op in ops) else "graph"
        second = next((v for n, k, v in fields if n == 2 and k == BYTES), None)
        if second is not None and (inner := _outline(_bytes(second), 2)):
            n, k, v = inner[0]
            if n == 1 and k == BYTES and _node_op(_bytes(v)) is not None:
                return "meta-graph"
    return None


def _bytes(value: int | memoryview) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")


def _node_op(node: memoryview) -> bytes | None:
    """The operation of a ``NodeDef``; None if the message is not a ``NodeDef``."""
    fields = _outline(node, 2)
    if [one[:2] for one in fields] != [(1, BYTES), (2, BYTES)]:
        return None
    op = bytes(_bytes(fields[1][2])[:512])
    return op if _OP_NAME.match(op) else None
