"""Reads the memory-mapped graph (``.pbmm``) of Mozilla and Coqui as a frozen graph.

    file = regions... directory, then the directory's offset in 8 bytes, little endian

The directory has the name and offset of every region. One region has the ``GraphDef``; a large
constant is an ``ImmutableConst``, which names the region with its bytes, little endian. Source:
TensorFlow's ``memmapped_file_system.{h,proto}`` and ``convert_graphdef_memmapped_format``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from asrbuild.architectures.tensorflow.proto import DType, Node, Shape, Tensor
from asrbuild.base.protobuf import BYTES, WireError, payload, read_fields

GRAPH_REGION = "memmapped_package://."
_OFFSET = struct.Struct("<Q")
_OP = "ImmutableConst"


@dataclass(frozen=True)
class Region:
    """A region: its offset, and its bytes."""

    offset: int
    content: memoryview


def read_regions(data: memoryview) -> dict[str, Region]:
    """The regions of a ``.pbmm`` by name.

    Raises:
        WireError: the directory is damaged, or a region is outside of the file.
    """
    (end,) = _OFFSET.unpack(data[-_OFFSET.size :])
    places: dict[str, tuple[int, int]] = {}
    for number, kind, element in read_fields(data[end : len(data) - _OFFSET.size]):
        if number != 1 or kind != BYTES:
            raise WireError(f"the directory has no field {number}")
        fields = {inner: value for inner, _, value in read_fields(payload(element))}
        name = str(payload(fields.get(2, memoryview(b""))), "utf-8")
        places[name] = int(fields.get(1, 0)), int(fields.get(3, 0))
    starts = sorted({offset for offset, _ in places.values()} | {end})
    regions = {}
    for name, (offset, length) in places.items():
        # TensorFlow before 1.0 wrote no length: a region ends at the next one.
        stop = offset + length if length else next((s for s in starts if s > offset), end)
        if not offset < stop <= end:
            raise WireError(f"the region {name} is not in the file")
        regions[name] = Region(offset, data[offset:stop])
    if GRAPH_REGION not in regions:
        raise WireError("no region holds the graph")
    return regions


def constants_of_regions(nodes: Iterable[Node], regions: Mapping[str, Region]) -> Iterator[Node]:
    """Yields the nodes, with a ``Const`` for every ``ImmutableConst``.

    Raises:
        WireError: the region of a constant is missing or has another size.
    """
    for node in nodes:
        yield node if node.op != _OP else _constant(node, regions)


def _constant(node: Node, regions: Mapping[str, Region]) -> Node:
    dtype, shape = node.attrs.get("dtype"), node.attrs.get("shape")
    name = node.attrs.get("memory_region_name")
    if not (isinstance(dtype, DType) and isinstance(shape, Shape) and isinstance(name, bytes)):
        raise WireError(f"{node.name} has no type, shape or region")
    if not regions:
        raise WireError(
            f"{node.name} has its value in a region of a .pbmm, and this graph was taken out of one"
        )
    region = regions.get(name.decode("utf-8", "replace"))
    sizes = shape.known
    if sizes is None or dtype.numpy is None or region is None:
        raise WireError(f"{node.name} has no value: its region is {name!r}")
    size = int(np.prod(sizes, dtype=np.int64)) * dtype.numpy.itemsize
    if size > len(region.content):
        raise WireError(f"{node.name} needs {size} bytes, its region has {len(region.content)}")
    value = Tensor(dtype, sizes, region.content[:size])
    return Node(node.name, "Const", node.inputs, {"dtype": dtype, "value": value}, node.device)
