"""Protocol buffer wire format, reading and writing, without copies of large payloads.

A 189 MB graph is nearly all tensor bytes. Message classes would copy them two or three times; here
a payload is a ``memoryview`` of the mapped file when read, and written from its array's own memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

#: A message to write: pieces to be joined, so that a large one is never copied.
Pieces = list["bytes | memoryview"]


class WireError(ValueError):
    """The bytes are not a whole, valid message."""


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Reads an unsigned varint; returns it and the position after it."""
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError("ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError("a number is longer than 64 bits")


def signed(value: int) -> int:
    """An int32 or int64 as varints carry it: two's complement of 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


def read_fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yields (field number, wire type, value) for each field of a message.

    The value is an int for ``VARINT`` and a view of the payload for the other types.
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field number 0")
        if kind == VARINT:
            value, at = read_varint(data, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = read_varint(data, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise WireError(f"wire type {kind}")
        if at + size > len(data):
            raise WireError("ends inside a field")
        yield number, kind, data[at : at + size]
        at += size


def payload(value: int | memoryview) -> memoryview:
    """The payload of a field whose wire type is not ``VARINT``.

    Raises:
        WireError: the field is a ``VARINT``.
    """
    if isinstance(value, int):
        raise WireError("a number is in the place of a message or text")
    return value


def read_packed(value: int | memoryview) -> list[int]:
    """Reads a repeated integer field, packed or not."""
    if isinstance(value, int):
        return [signed(value)]
    numbers, at = [], 0
    while at < len(value):
        number, at = read_varint(value, at)
        numbers.append(signed(number))
    return numbers


def varint(value: int) -> bytes:
    """Writes an int as an unsigned varint; a negative one as two's complement of 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def int_field(number: int, value: int) -> bytes:
    """The bytes of an integer field of a message."""
    return varint(number << 3 | VARINT) + varint(value)


def float_field(number: int, value: float) -> bytes:
    """The bytes of a float field (32 bits) of a message."""
    return varint(number << 3 | FIXED32) + struct.pack("<f", value)


def bytes_field(number: int, payload: bytes | memoryview) -> Pieces:
    """The pieces of a field of bytes or text; the payload is not copied."""
    return [varint(number << 3 | BYTES) + varint(len(payload)), payload]


def message_field(number: int, pieces: Sequence[bytes | memoryview]) -> Pieces:
    """Wraps a message's pieces as one field."""
    size = sum(len(piece) for piece in pieces)
    return [varint(number << 3 | BYTES) + varint(size), *pieces]
