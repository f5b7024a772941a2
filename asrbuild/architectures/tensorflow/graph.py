"""Reads a frozen graph from a ``.pb`` or a memory-mapped ``.pbmm``."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from asrbuild.architectures.tensorflow.proto import Graph, Node, input_name, read_node
from asrbuild.base import protobuf as wire
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import GRAPH
from asrbuild.base.kinds.recognition import require
from asrbuild.base.protobuf import BYTES, WireError


def load_graph(path: Path | str) -> Graph:
    """Reads a graph (``.pb`` or ``.pbmm``), memory-mapped: large constants are views of the file.

    Raises:
        AsrbuildError: the file is missing, cut off, damaged, or of another kind.
    """
    from asrbuild.architectures.tensorflow.memmapped import (
        GRAPH_REGION,
        constants_of_regions,
        read_regions,
    )

    path = Path(path)
    kind = require(path, GRAPH)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise AsrbuildError(f"cannot read the graph: {error.strerror}", file=path) from error
    try:
        view = memoryview(data)
        regions = read_regions(view) if kind.key == "pbmm" else {}
        whole = regions[GRAPH_REGION].content if regions else view
        nodes, producer, library = _read_graph(whole)
        nodes = list(constants_of_regions(nodes, regions))
        _check_references(nodes)
    except (ValueError, TypeError, struct.error) as error:
        # WireError, or an error about a field with the wrong type.
        raise AsrbuildError(
            f"not a whole TensorFlow GraphDef of {size} bytes: {error}",
            file=path,
            fix="give a frozen graph (output_graph.pb); one that was cut off must be copied again",
        ) from error
    return Graph(tuple(nodes), producer, size, path, library)


def _check_references(nodes: list[Node]) -> None:
    # A file cut off between two nodes is a valid message; references to missing nodes show it.
    if not nodes:
        raise WireError("it has no nodes")
    names = {node.name for node in nodes}
    for node in nodes:
        if not node.name or not node.op:
            raise WireError("a node without name or operation")
        for reference in node.inputs:
            if input_name(reference) not in names:
                raise WireError(f"node {node.name} reads {input_name(reference)}, which is missing")


def _read_graph(data: memoryview) -> tuple[list[Node], int, memoryview | bytes]:
    nodes: list[Node] = []
    producer = 0
    library: memoryview | bytes = b""
    for number, kind, value in wire.read_fields(data):
        if number == 1 and kind == BYTES:
            nodes.append(read_node(wire.payload(value)))
        elif number == 2 and kind == BYTES:
            library = wire.payload(value)
        elif number == 4 and kind == BYTES:
            for inner, _, version in wire.read_fields(wire.payload(value)):
                producer = int(version) if inner == 1 else producer
        elif number not in (3, 5):
            raise WireError(f"GraphDef has no field {number}")
    return nodes, producer, library
