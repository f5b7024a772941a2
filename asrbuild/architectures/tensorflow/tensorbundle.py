"""Reads TensorFlow checkpoints (TensorBundle, format V2) without TensorFlow, memory-mapped.

``<prefix>.index`` is a LevelDB table: keys are tensor names, values ``BundleEntryProto``.
``<prefix>.data-00000-of-00001`` and so on hold raw little-endian values. Every block and every
tensor has a masked CRC-32C, and all are checked. Unsupported features are refused: compressed index
blocks, partitioned tensors, strings, big-endian files.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrbuild.architectures.tensorflow.proto import DType
from asrbuild.base import protobuf as wire
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.protobuf import WireError

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5  # bytes
_UNPARTITIONED = (
    "load the checkpoint with the training code and without a partitioner, and save it again; or "
    "export its graph and build that with source=frozen_graph"
)


@dataclass(frozen=True)
class TensorPlace:
    """The place of one tensor: its shard, offset and size in bytes, and its masked CRC-32C."""

    dtype: DType
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    partitioned: bool


@dataclass(frozen=True)
class Bundle:
    """An open checkpoint."""

    prefix: Path
    entries: dict[str, TensorPlace]
    shards: tuple[memoryview, ...]

    def names(self) -> list[str]:
        """Tensor names, sorted."""
        return sorted(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._entry(name).shape

    def dtype(self, name: str) -> str:
        """TensorFlow's name of a tensor's element type."""
        return self._entry(name).dtype.name

    def read(self, name: str) -> Array:
        """Reads a tensor as a read-only view of the mapped file, and verifies its checksum.

        Raises:
            AsrbuildError: the tensor is missing, cut off, damaged, or of an unsupported kind.
        """
        entry = self._entry(name)
        if entry.partitioned:
            raise self._refuse(name, "is stored in partitions", _UNPARTITIONED)
        dtype = entry.dtype.numpy
        if dtype is None:
            raise self._refuse(name, f"has elements of type {entry.dtype.name}", None)
        if entry.size != int(np.prod(entry.shape, dtype=np.int64)) * dtype.itemsize:
            raise self._refuse(name, f"has {entry.size} bytes for shape {entry.shape}", None)
        if entry.shard >= len(self.shards):
            raise self._refuse(name, f"lies in shard {entry.shard}, which does not exist", None)
        shard = self.shards[entry.shard]
        if entry.offset + entry.size > len(shard):
            raise self._refuse(
                name,
                f"ends at byte {entry.offset + entry.size} of a data file of {len(shard)} bytes",
                "the data file is cut off: copy the checkpoint again",
            )
        raw = np.frombuffer(shard[entry.offset : entry.offset + entry.size], np.uint8)
        if _masked_crc(raw) != entry.crc:
            raise self._refuse(
                name, "does not match its checksum", "the data file is damaged: copy it again"
            )
        array = raw.view(dtype.newbyteorder("<")).reshape(entry.shape)
        # Another tensor's odd size can misalign this one; numpy is slow with such arrays.
        return array if array.flags.aligned else array.copy()

    def _entry(self, name: str) -> TensorPlace:
        if name not in self.entries:
            raise AsrbuildError(
                f"the checkpoint has no tensor {name}",
                file=self.prefix,
                fix=f"it has: {', '.join(self.names()[:20]) or 'none'}",
            )
        return self.entries[name]

    def _refuse(self, name: str, what: str, fix: str | None) -> AsrbuildError:
        return AsrbuildError(f"tensor {name} {what}", file=self.prefix, fix=fix)


def open_bundle(prefix: Path | str) -> Bundle:
    """Opens the checkpoint ``<prefix>.index`` with its data files.

    Raises:
        AsrbuildError: a file is missing, or the index is damaged or of an unsupported kind.
    """
    prefix = Path(prefix)
    index = prefix.with_name(prefix.name + ".index")
    data = _map(index)
    try:
        table = _read_table(data)
        if b"" not in table:
            raise WireError("no header")
        count = _read_header(table.pop(b""))
        # Slices of partitioned tensors have keys of their own, which are not names.
        named = sorted((key, value) for key, value in table.items() if key[:1] != b"\0")
        entries = {key.decode(): _read_entry(value) for key, value in named}
    # WireError, or an error about a field with the wrong type
    except (ValueError, TypeError) as error:
        raise AsrbuildError(
            f"not a whole TensorFlow checkpoint index: {error}",
            file=index,
            fix="copy the checkpoint again",
        ) from error
    names = [f"{prefix.name}.data-{shard:05d}-of-{count:05d}" for shard in range(count)]
    return Bundle(prefix, entries, tuple(_map(prefix.with_name(name)) for name in names))


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise AsrbuildError(
            f"cannot read the checkpoint: {error.strerror}",
            file=path,
            fix="a checkpoint is <prefix>.index and <prefix>.data-*, side by side",
        ) from error


def _masked_crc(data: Array) -> int:
    """CRC-32C, rotated and offset as LevelDB stores it."""
    import google_crc32c

    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _read_table(data: memoryview) -> dict[bytes, memoryview]:
    """All pairs of a LevelDB table."""
    if len(data) < _FOOTER:
        raise WireError(f"it has only {len(data)} bytes")
    footer = data[-_FOOTER:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise WireError("no table footer; it is cut off, or no checkpoint index")
    at = 0
    handles = []
    for _ in range(4):
        number, at = wire.read_varint(footer, at)
        handles.append(number)
    table: dict[bytes, memoryview] = {}
    for _, handle in _read_block(data, handles[2], handles[3]):
        offset, at = wire.read_varint(handle, 0)
        size, _ = wire.read_varint(handle, at)
        table.update(_read_block(data, offset, size))
    return table


def _read_block(data: memoryview, offset: int, size: int) -> list[tuple[bytes, memoryview]]:
    """The pairs of one block; a key stores only its difference from the previous key."""
    if offset + size + _TRAILER > len(data) - _FOOTER:
        raise WireError("a block lies outside the file")
    kind = data[offset + size]
    stored = int.from_bytes(data[offset + size + 1 : offset + size + _TRAILER], "little")
    if _masked_crc(np.frombuffer(data[offset : offset + size + 1], np.uint8)) != stored:
        raise WireError("a block does not match its checksum")
    if kind != 0:
        raise WireError(f"blocks compressed by method {kind} are not supported")
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    if size < 4 or end < 0:
        raise WireError("a block without restart points")
    pairs, key, at = [], b"", 0
    while at < end:
        shared, at = wire.read_varint(block, at)
        own, at = wire.read_varint(block, at)
        length, at = wire.read_varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise WireError("a block ends inside an entry")
        key = key[:shared] + bytes(block[at : at + own])
        at += own
        pairs.append((key, block[at : at + length]))
        at += length
    return pairs


def _read_header(data: memoryview) -> int:
    """The number of data files."""
    shards = 0
    for number, _, value in wire.read_fields(data):
        if number == 1:
            shards = int(value)
        elif number == 2 and value:
            raise WireError("big-endian checkpoints are not supported")
    if not 1 <= shards <= 99_999:
        raise WireError(f"{shards} data files")
    return shards


def _read_entry(data: memoryview) -> TensorPlace:
    dtype = shard = offset = size = crc = 0
    dims: list[int] = []
    partitioned = False
    for number, _, value in wire.read_fields(data):
        if number == 1:
            dtype = int(value)
        elif number == 2:
            for inner, _, dim in wire.read_fields(wire.payload(value)):
                if inner == 2:
                    parts = wire.read_fields(wire.payload(dim))
                    sizes = {part: int(size) for part, _, size in parts if part == 1}
                    dims.append(sizes.get(1, 0))
        elif number == 3:
            shard = int(value)
        elif number == 4:
            offset = int(value)
        elif number == 5:
            size = int(value)
        elif number == 6:
            crc = int.from_bytes(wire.payload(value), "little")
        elif number == 7:
            partitioned = True
    return TensorPlace(DType(dtype), tuple(dims), shard, offset, size, crc, partitioned)
