"""MIL values as numpy arrays: literals in the program, and blobs in ``weight.bin``.

Source: the message definitions in Core ML's ``MIL.proto``; for ``weight.bin``, the storage format
of Core ML's ``MILBlob`` ("a blob file": a 64-byte header, then records of 64 bytes each).
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: ``MILSpec.DataType`` number -> numpy type. Sub-byte integers are widened to a byte each.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(bool),
    10: np.dtype(np.float16),
    11: np.dtype(np.float32),
    12: np.dtype(np.float64),
    21: np.dtype(np.int8),
    22: np.dtype(np.int16),
    23: np.dtype(np.int32),
    24: np.dtype(np.int64),
    25: np.dtype(np.int8),
    31: np.dtype(np.uint8),
    32: np.dtype(np.uint16),
    33: np.dtype(np.uint32),
    34: np.dtype(np.uint64),
    35: np.dtype(np.uint8),
    36: np.dtype(np.uint8),
    37: np.dtype(np.uint8),
    38: np.dtype(np.uint8),
    39: np.dtype(np.uint8),
}
STRING = 2
#: ``MILSpec.DataType`` number -> bits of one packed element.
SUB_BYTE = {25: 4, 35: 4, 36: 2, 37: 1, 38: 6, 39: 3}
#: Blob record's own type number -> ``MILSpec.DataType`` number.
_BLOB_TYPES = {
    1: 10,
    2: 11,
    3: 31,
    4: 21,
    6: 22,
    7: 32,
    8: 25,
    9: 37,
    10: 36,
    11: 35,
    12: 39,
    13: 38,
    14: 23,
    15: 33,
}
_BLOB_RECORD = struct.Struct("<IIQQQ")
_BLOB_SENTINEL = 0xDEADBEEF
#: MIL's name of a type -> numpy type, as in ``cast``.
NAMED_DTYPES: dict[str, np.dtype[Any]] = {
    "bool": np.dtype(bool),
    "fp16": np.dtype(np.float16),
    "fp32": np.dtype(np.float32),
    "fp64": np.dtype(np.float64),
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16)},
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (32, 64)},
}


class Blobs:
    """The memory-mapped blob files of one package; arrays are read-only views of the maps."""

    def __init__(self, model_directory: Path) -> None:
        self._directory = model_directory
        self._maps: dict[str, mmap.mmap] = {}

    def read(self, file_name: str, offset: int, data_type: int, shape: tuple[int, ...]) -> Any:
        """The blob at ``offset`` as an array of ``shape``, checked against its own record."""
        data = self._map(file_name)
        if offset + _BLOB_RECORD.size > len(data):
            raise self._damaged(file_name, f"no blob record fits at offset {offset}")
        sentinel, blob_type, size, start, _ = _BLOB_RECORD.unpack_from(data, offset)
        if sentinel != _BLOB_SENTINEL:
            raise self._damaged(file_name, f"no blob record at offset {offset}")
        if _BLOB_TYPES.get(blob_type) != data_type:
            raise self._damaged(
                file_name, f"blob at {offset} has type {blob_type}, not what the program declares"
            )
        count = math.prod(shape)
        bits = SUB_BYTE.get(data_type)
        expected = count * DTYPES[data_type].itemsize if bits is None else -(-count * bits // 8)
        if start + size > len(data):
            raise self._damaged(
                file_name, f"blob at {offset} ends at {start + size}, the file at {len(data)}"
            )
        if size != expected:
            raise self._damaged(
                file_name, f"blob at {offset} has {size} bytes, {expected} needed for {shape}"
            )
        if bits is not None:
            packed = np.frombuffer(data, np.uint8, size, start)
            return unpack_bits(packed, bits, count, signed=data_type == 25).reshape(shape)
        return np.frombuffer(data, DTYPES[data_type], count, start).reshape(shape)

    def release(self) -> None:
        """Releases the mapped pages read so far; the system reads them again on access."""
        for data in self._maps.values():
            if hasattr(mmap, "MADV_DONTNEED"):
                data.madvise(mmap.MADV_DONTNEED)

    def _map(self, file_name: str) -> mmap.mmap:
        if file_name not in self._maps:
            path = self._path(file_name)
            try:
                if not path.is_file():  # opening a pipe would block
                    raise OSError("the path is not a plain file")
                with path.open("rb") as file:
                    self._maps[file_name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise AsrbuildError(
                    f"the package's weights cannot be read: {error}",
                    file=path,
                    fix="the package is incomplete: build it again, or copy all of it again",
                ) from error
        return self._maps[file_name]

    def _path(self, file_name: str) -> Path:
        relative = file_name.removeprefix("@model_path/")
        path = (self._directory / relative).resolve()
        if not path.is_relative_to(self._directory.resolve()):
            raise AsrbuildError(
                f"the program names a weight file outside its package: {file_name}",
                file=self._directory,
                fix="do not use this package: it was not written by Core ML's tools",
            )
        return path

    def _damaged(self, file_name: str, what: str) -> AsrbuildError:
        return AsrbuildError(
            f"damaged weights: {what}",
            file=self._path(file_name),
            fix="build the package again, or copy it again from a good copy",
        )


def unpack_bits(packed: Array, bits: int, count: int, *, signed: bool = False) -> Array:
    """Unpacks ``count`` integers of ``bits`` bits, packed from the least significant bit upward.

    The result has one byte for each. Source: "Notes" of ``constexpr_lut_to_dense`` in the MIL
    reference.
    """
    stream = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    values = np.packbits(stream, axis=1, bitorder="little")[:, 0]
    if not signed:
        return values
    sign_bit = np.uint8(1 << (bits - 1))
    return ((values ^ sign_bit).astype(np.int16) - int(sign_bit)).astype(np.int8)


def read_value(value: Any, blobs: Blobs) -> Any:
    """Reads a ``MILSpec.Value``: a read-only array, a ``str``, or a list of them (a MIL list)."""
    kind = value.WhichOneof("value")
    if kind == "blobFileValue":
        tensor_type = value.type.tensorType
        blob = value.blobFileValue
        shape = const_shape(tensor_type)
        return blobs.read(blob.fileName, blob.offset, tensor_type.dataType, shape)
    immediate = value.immediateValue
    if immediate.WhichOneof("value") == "list":
        return [read_value(item, blobs) for item in immediate.list.values]
    if immediate.WhichOneof("value") == "tuple":
        return [read_value(item, blobs) for item in immediate.tuple.values]
    if immediate.WhichOneof("value") == "dictionary":
        return {
            read_value(pair.key, blobs): read_value(pair.value, blobs)
            for pair in immediate.dictionary.values
        }
    return _read_tensor(value.type.tensorType, immediate.tensor)


def const_shape(tensor_type: Any) -> tuple[int, ...]:
    """The shape of a tensor type whose dimensions are all known."""
    return tuple(int(dimension.constant.size) for dimension in tensor_type.dimensions)


def _read_tensor(tensor_type: Any, tensor: Any) -> Any:
    shape = const_shape(tensor_type)
    field = tensor.WhichOneof("value")
    if tensor_type.dataType == STRING:
        strings = list(tensor.strings.values)
        return strings if shape else strings[0]
    dtype = DTYPES[tensor_type.dataType]
    bits = SUB_BYTE.get(tensor_type.dataType)
    if field == "bytes" and bits is not None:
        count = math.prod(shape)
        raw = np.frombuffer(tensor.bytes.values, np.uint8)
        array = unpack_bits(raw, bits, count, signed=tensor_type.dataType == 25)
    elif field == "bytes":
        array = np.frombuffer(tensor.bytes.values, dtype).copy()
    else:
        array = np.array(getattr(tensor, field).values, dtype)
    array = array.reshape(shape)
    array.flags.writeable = False
    return array
