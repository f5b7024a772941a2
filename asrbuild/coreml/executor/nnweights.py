"""Maps the weights of a neural network's ``.mlmodel`` into memory instead of parsing them.

The format has weights inside the protobuf message, where Python would turn 47 million floats into
objects. So the wire format is scanned first: the bytes of every ``WeightParams`` payload stay in
the mapped file, and the message that protobuf parses has a number in their place.

Sources: the protobuf encoding guide; ``WeightParams`` in Core ML's ``NeuralNetwork.proto``.
"""

from __future__ import annotations

import mmap
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.protobuf import BYTES, read_fields, varint
from asrbuild.coreml import protobufs as coremlproto

_PAYLOADS = {"floatValue", "float16Value", "rawValue", "int8RawValue"}


class NnWeights:
    """The weight payloads of one ``.mlmodel``, by number."""

    def __init__(self, data: mmap.mmap, payloads: list[memoryview]) -> None:
        self._data = data
        self._payloads = payloads

    def read(self, params: Any, shape: tuple[int, ...] | None = None) -> Array:
        """A ``WeightParams`` as float32, flat or of ``shape``; a view of the file if possible.

        float16 and quantized payloads are widened here, once.
        """
        if params.floatValue:
            parts = [self._bytes(int(number)).view(np.uint8) for number in params.floatValue]
            raw = parts[0] if len(parts) == 1 else np.concatenate(parts)
            values = raw.view(np.float32)
        elif params.float16Value:
            values = self._token(params.float16Value).view(np.float16).astype(np.float32)
        elif params.rawValue:
            return self._dequantize(params, shape)
        elif params.int8RawValue:
            raise AsrbuildError(
                "this neural network multiplies int8 weights with int8 inputs, which the executor "
                "does not do",
                fix="convert without dynamic quantization",
            )
        else:
            values = np.zeros(0, np.float32)
        return values if shape is None else _reshape(values, shape)

    def stored_bytes(self, message: Any) -> int:
        """The stored bytes of all weights in a message of this model."""
        if message.DESCRIPTOR.name == "WeightParams":
            numbers = [int(number) for number in message.floatValue]
            tokens = (message.float16Value, message.rawValue, message.int8RawValue)
            numbers += [struct.unpack("<Q", token)[0] for token in tokens if token]
            return sum(len(self._payloads[number]) for number in numbers)
        total = 0
        for field, value in message.ListFields():
            if field.message_type is not None and _holds_weights(field.message_type.full_name):
                items = (value,) if hasattr(value, "ListFields") else value
                total += sum(map(self.stored_bytes, items))
        return total

    def release(self) -> None:
        """Releases the mapped pages read so far; the system reads them again on access."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._data.madvise(mmap.MADV_DONTNEED)

    def _bytes(self, number: int) -> Array:
        payload = np.frombuffer(self._payloads[number], np.uint8)
        # BLAS requires aligned floats, which the protobuf encoding does not guarantee.
        return payload if payload.ctypes.data % 4 == 0 else payload.copy()

    def _token(self, token: bytes) -> Array:
        return self._bytes(struct.unpack("<Q", token)[0])

    def _dequantize(self, params: Any, shape: tuple[int, ...] | None) -> Array:
        """Expands quantized weights; channels are the first axis.

        Source: ``QuantizationParams`` in NeuralNetwork.proto; the most significant bit comes first.
        """
        bits = int(params.quantization.numberOfBits)
        stream = np.unpackbits(self._token(params.rawValue))
        stream = stream[: len(stream) - len(stream) % bits].reshape(-1, bits)
        indices = np.packbits(stream, axis=1)[:, 0] >> (8 - bits)
        count = len(indices) if shape is None else int(np.prod(shape))
        indices = indices[:count]
        if params.quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
            table = params.quantization.lookupTableQuantization.floatValue
            values = np.array(table, np.float32)[indices]
        else:
            linear = params.quantization.linearQuantization
            scale = np.array(linear.scale, np.float32).reshape(-1, 1)
            bias = np.array(linear.bias or [0.0], np.float32).reshape(-1, 1)
            channels = max(len(scale), len(bias))
            rows = indices.reshape(channels, -1).astype(np.float32)
            values = (rows * scale + bias).reshape(-1)
        return values if shape is None else _reshape(values, shape)


def split_weights(path: Path) -> tuple[Any, NnWeights]:
    """Parses a ``Model`` message without its weight payloads, and maps those.

    Raises:
        AsrbuildError: the file cannot be read, or is not a ``Model`` message.
    """
    message = coremlproto.model().Model
    payloads: list[memoryview] = []
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        small = _strip(memoryview(data), message.DESCRIPTOR, payloads)
        return message.FromString(bytes(small)), NnWeights(data, payloads)
    except (OSError, ValueError, RecursionError, DecodeError) as error:
        raise not_a_model(path, error) from error


def not_a_model(path: Path, error: Exception) -> AsrbuildError:
    """The error for a file without a readable ``Model`` message."""
    return AsrbuildError(
        f"not a Core ML model, or a damaged one: {error}",
        file=path,
        fix="give a .mlpackage directory or a .mlmodel file; copy it again if it was copied",
    )


@cache
def _holds_weights(name: str) -> bool:
    return name in _names_holding_weights()


@cache
def _names_holding_weights() -> frozenset[str]:
    """Full names of the messages that can contain a ``WeightParams``."""
    root = coremlproto.model().Model.DESCRIPTOR
    uses: dict[str, set[str]] = {}
    waiting = [root]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name in uses:
            continue
        children = [f.message_type for f in descriptor.fields if f.message_type is not None]
        uses[descriptor.full_name] = {child.full_name for child in children}
        waiting += children
    holding = {name for name in uses if name.endswith(".WeightParams")}
    while True:
        more = {name for name, children in uses.items() if children & holding} - holding
        if not more:
            return frozenset(holding)
        holding |= more


def _strip(data: memoryview, descriptor: Any, payloads: list[memoryview]) -> bytearray:
    """Copies a message with numbers in place of its weights, which are added to ``payloads``."""
    small = bytearray()
    for number, wire, value in read_fields(data):
        field = descriptor.fields_by_number.get(number)
        small += varint(number << 3 | wire)
        holds = field is not None and descriptor.name == "WeightParams" and field.name in _PAYLOADS
        if holds and wire != BYTES:
            # They would be mistaken for the numbers in place of payloads.
            raise ValueError("weights one by one, where coremltools packs them")
        if isinstance(value, int):
            small += varint(value)
        elif wire != BYTES:
            small += value
        else:
            body: memoryview | bytes | bytearray = value
            if holds and len(value):
                body = struct.pack("<f" if field.name == "floatValue" else "<Q", len(payloads))
                payloads.append(value)
            elif field and field.message_type and _holds_weights(field.message_type.full_name):
                body = _strip(value, field.message_type, payloads)
            small += varint(len(body))
            small += body
    return small


def _reshape(values: Array, shape: tuple[int, ...]) -> Array:
    if values.size != int(np.prod(shape)):
        raise AsrbuildError(
            f"a layer's weights have {values.size} values, {shape} needed",
            fix="the model is damaged: build it again",
        )
    return values.reshape(shape)
