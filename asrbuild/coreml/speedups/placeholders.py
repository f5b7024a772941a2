"""Spares 88 % of a TensorFlow graph's conversion (3.3 s of CPU time for 28.3 s, 2048 units).

A graph is converted without its big weights, which are put into the package afterwards.

coremltools copies, casts, compares and prints every weight many times; 47 million of them take half
a minute and 2 GB. So each large matrix is replaced by a stand-in of the same shape that TensorFlow
stores in three numbers, ``[tag, 0.5, 0.25, 0.25, ...]``. All fusions of coremltools work as before;
each stored matrix shows its number (the tag) and whether it was transposed (then 0.25 follows the
tag). If a stand-in was changed in any other way, the conversion is repeated with the real weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.arrays import FP16_MAX, transposed
from asrbuild.coreml.speedups import enabled

#: Smaller matrices are not replaced: they cost little, and coremltools may fold them.
MIN_ELEMENTS = 100_000
FIRST, SECOND, REST = 1024.0, 0.5, 0.25
#: Integers up to 2048 are exact in fp16, so the cast does not change tags.
MAX_STANDINS = 1024
_BLOB = np.dtype([("magic", "<u4"), ("dtype", "<u4"), ("bytes", "<u8"), ("offset", "<u8")])
_BLOB_MAGIC = 0xDEADBEEF
_BLOB_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f2"), 2: np.dtype("<f4")}
_DT_FLOAT = 1


class StandInLostError(Exception):
    """A stand-in was changed or folded, so the real weights must be converted."""


@dataclass(frozen=True)
class StandIns:
    """The real matrices, and their nodes' names; matrix ``i`` has the tag ``FIRST + i``."""

    matrices: tuple[Array, ...]
    names: tuple[str, ...]

    def real(self, stored: Array) -> Array | None:
        """The real matrix for a stored one, flat, of its type; None if it is not a stand-in.

        Raises:
            StandInLostError: it starts like a stand-in, but was changed.
        """
        number = self.number(stored)
        if number is None:
            return None
        matrix = self.matrices[number]
        flipped = stored[1] == REST
        # In a transposed matrix, the second number of the first row is the first of the second row.
        second = matrix.shape[0] if flipped else 1
        untouched = (
            stored.size == matrix.size
            and stored[second] == SECOND
            and np.count_nonzero(stored == REST) == stored.size - 2
        )
        if not untouched:
            raise StandInLostError(self.names[number])
        if flipped:
            return transposed(matrix, stored.dtype).ravel()
        return matrix.ravel().astype(stored.dtype, copy=False)

    def number(self, stored: Array) -> int | None:
        """The number of a stand-in by its tag; None if ``stored`` is not a stand-in."""
        if stored.size < MIN_ELEMENTS or stored[1] not in (SECOND, REST):
            return None
        number = float(stored[0]) - FIRST
        return int(number) if number in range(len(self.matrices)) else None


def stand_in(graph_def: Any) -> StandIns:
    """Replaces the large float32 matrices of a ``GraphDef`` in place."""
    matrices: list[Array] = []
    names: list[str] = []
    for node in graph_def.node if enabled("placeholders") else ():
        if node.op != "Const" or len(matrices) == MAX_STANDINS:
            continue
        tensor = node.attr["value"].tensor
        shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
        size = int(np.prod(shape))
        if tensor.dtype != _DT_FLOAT or len(shape) != 2 or size < MIN_ELEMENTS:
            continue
        if len(tensor.tensor_content) != 4 * size or min(shape) < 3:
            continue
        matrices.append(np.frombuffer(tensor.tensor_content, "<f4").reshape(shape))
        names.append(node.name)
        tensor.tensor_content = b""
        tensor.float_val.extend([FIRST + len(names) - 1, SECOND, REST])
    return StandIns(tuple(matrices), tuple(names))


def put_back(stand_ins: StandIns, package: Path) -> None:
    """Writes the real matrices into the ``weight.bin`` of an ``.mlpackage``.

    Raises:
        StandInLostError: the package lacks a stand-in, or has a changed one.
        AsrbuildError: a weight exceeds the range of fp16.
    """
    from asrbuild.coreml import protobufs as coremlproto

    data = package / "Data" / "com.apple.CoreML"
    spec = coremlproto.model().Model()
    spec.ParseFromString((data / "model.mlmodel").read_bytes())
    offsets: set[int] = set()
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            _blob_offsets(block, offsets)
    found: set[int] = set()
    blob = np.memmap(data / "weights" / "weight.bin", np.uint8, "r+")
    for offset in sorted(offsets):
        record = blob[offset : offset + _BLOB.itemsize].view(_BLOB)[0]
        dtype = _BLOB_TYPES.get(int(record["dtype"]))
        if record["magic"] != _BLOB_MAGIC or dtype is None:
            continue
        start = int(record["offset"])
        stored = blob[start : start + int(record["bytes"])].view(dtype)
        number = stand_ins.number(stored)
        if number is None:
            continue
        _check_fits(stand_ins, number, dtype)
        stored[:] = stand_ins.real(stored)
        found.add(number)
    blob.flush()
    check_all_found(stand_ins, found)


def check_all_found(stand_ins: StandIns, found: set[int]) -> None:
    """Raises ``StandInLostError`` if a stand-in is not among ``found``."""
    lost = set(range(len(stand_ins.matrices))) - found
    if lost:
        raise StandInLostError(stand_ins.names[min(lost)])


def _check_fits(stand_ins: StandIns, number: int, dtype: np.dtype[Any]) -> None:
    matrix = stand_ins.matrices[number]
    largest = max(-float(matrix.min()), float(matrix.max()))
    if dtype.itemsize == 2 and not largest <= FP16_MAX:
        raise AsrbuildError(
            f"{stand_ins.names[number]} reaches {largest:.6g}, above fp16's {FP16_MAX:g}",
            key="coreml.precision",
            fix="use coreml.precision=fp32",
        )


def _blob_offsets(block: Any, offsets: set[int]) -> None:
    for operation in block.operations:
        values = list(operation.attributes.values())
        values += [
            argument.value
            for item in operation.inputs.values()
            for argument in item.arguments
            if argument.WhichOneof("binding") == "value"
        ]
        for value in values:
            if value.WhichOneof("value") == "blobFileValue":
                offsets.add(value.blobFileValue.offset)
        for inner in operation.blocks:
            _blob_offsets(inner, offsets)
