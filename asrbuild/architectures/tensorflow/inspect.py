"""Summarises a frozen graph without TensorFlow: inputs, outputs, operations and metadata."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asrbuild.architectures.tensorflow.convertible import VARIABLES, Unconvertible, unconvertible
from asrbuild.architectures.tensorflow.cutting import suggested_cuts
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.outputs import input_nodes, is_metadata, output_nodes
from asrbuild.architectures.tensorflow.proto import DType, Graph, Node, Shape, Tensor
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.protobuf import WireError

#: Metadata nodes with durations -> the client's unit.
UNITS = {
    "metadata_sample_rate": "Hz",
    "metadata_feature_win_len": "ms",
    "metadata_feature_win_step": "ms",
}


@dataclass(frozen=True)
class GraphPort:
    """An input or output: name, operation, element type and declared shape.

    An open dimension is None; an undeclared shape is None.
    """

    name: str
    op: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Metadata:
    """One metadata node, decoded: an int, a text, or the alphabet's labels in order."""

    name: str
    value: int | str | list[str]
    unit: str | None


@dataclass(frozen=True)
class GraphSummary:
    """The summary of a frozen graph.

    Args:
        path: the file.
        nbytes: its size.
        producer: ``GraphDef`` version of the TensorFlow that wrote it, 0 if unknown.
        inputs: the placeholders.
        outputs: the nodes that no node reads, without metadata.
        metadata: the ``metadata_*`` constants.
        ops: operation -> number of nodes, most frequent first.
        parameters: elements of floating-point constants with at least one dimension, including
            those of functions.
        stored: element type -> number of these elements.
        variables: the nodes with a variable; a frozen graph has none.
        functions: function of a TensorFlow 2 graph -> number of its nodes.
        unconvertible: the operations between inputs and outputs without a Core ML form.
        cuts: the tensors at which the graph can be cut after them.
    """

    path: str
    nbytes: int
    producer: int
    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]
    metadata: tuple[Metadata, ...]
    ops: dict[str, int]
    parameters: int
    stored: dict[str, int]
    variables: tuple[str, ...]
    functions: dict[str, int]
    unconvertible: tuple[Unconvertible, ...]
    cuts: tuple[str, ...] = ()

    @property
    def frozen(self) -> bool:
        """Whether every weight is a constant of the graph."""
        return not self.variables

    def as_dict(self) -> dict[str, object]:
        """The summary as values for JSON."""
        return asdict(self) | {"frozen": self.frozen}


def inspect_graph(path: Path | str) -> GraphSummary:
    """Summarises a frozen graph.

    Raises:
        AsrbuildError: the file is not a whole graph, or its metadata are damaged.
    """
    graph = load_graph(path)

    def port(node: Node) -> GraphPort:
        shape = node.attrs.get("shape")
        dims = shape.dims if isinstance(shape, Shape) else None
        return GraphPort(node.name, node.op, _dtype(graph, node), dims)

    inside = [node for nodes in graph.functions.values() for node in nodes]
    counts = Counter(node.op for node in (*graph.nodes, *inside))
    outputs = output_nodes(graph)
    stored: Counter[str] = Counter()
    for node in (*graph.nodes, *inside):
        value = node.attrs.get("value")
        if isinstance(value, Tensor) and (size := _parameters(node)):
            stored[value.dtype.name] += size
    return GraphSummary(
        path=str(path),
        nbytes=graph.nbytes,
        producer=graph.producer,
        inputs=tuple(port(node) for node in input_nodes(graph)),
        outputs=tuple(port(node) for node in outputs),
        metadata=read_metadata(graph),
        ops=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        parameters=sum(stored.values()),
        stored=dict(sorted(stored.items())),
        variables=tuple(n.name for n in (*graph.nodes, *inside) if n.op in VARIABLES),
        functions={name: len(nodes) for name, nodes in graph.functions.items()},
        unconvertible=unconvertible(graph, [node.name for node in outputs]),
        cuts=suggested_cuts(graph, [node.name for node in outputs]),
    )


def _dtype(graph: Graph, node: Node) -> str:
    for key in ("dtype", "T", "DstT", "Tparams", "out_type"):
        value = node.attrs.get(key)
        if isinstance(value, DType):
            return value.name
    return "float32" if node.op in ("AudioSpectrogram", "Mfcc") else "unknown"


def _parameters(node: Node) -> int:
    value = node.attrs.get("value")
    if node.op != "Const" or not isinstance(value, Tensor) or not value.shape:
        return 0
    dtype = value.dtype.numpy
    if dtype is None or dtype.kind != "f":
        return 0
    return int(np.prod(value.shape, dtype=np.int64))


def read_metadata(graph: Graph) -> tuple[Metadata, ...]:
    """Decodes the ``metadata_*`` constants.

    Raises:
        AsrbuildError: one of them cannot be decoded.
    """
    found = []
    for node in graph.nodes:
        if not is_metadata(node):
            continue
        try:
            value = _decode(node)
        except (WireError, IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            raise AsrbuildError(
                f"metadata node {node.name} is damaged: {error}", file=graph.path
            ) from error
        found.append(Metadata(node.name, value, UNITS.get(node.name)))
    return tuple(found)


def _decode(node: Node) -> int | str | list[str]:
    item = node.value.ravel()[0]
    if not isinstance(item, bytes):
        return int(item)
    return unpack_alphabet(item) if node.name == "metadata_alphabet" else item.decode()


def unpack_alphabet(packed: bytes) -> list[str]:
    """The labels in order as text, from the client's form.

    A byte-level alphabet's labels are single bytes; those above 127 are shown as ``\\xNN``.
    """
    return [label.decode(errors="backslashreplace") for label in unpack_labels(packed)]


def unpack_labels(packed: bytes) -> list[bytes]:
    """The labels in order, from the client's form (see ``deepspeech.export.pack_alphabet``).

    Raises:
        WireError: the data are cut off, or an index is missing.
    """
    (count,) = struct.unpack_from("<H", packed, 0)
    labels: dict[int, bytes] = {}
    at = 2
    for _ in range(count):
        index, size = struct.unpack_from("<HH", packed, at)
        at += 4
        if at + size > len(packed):
            raise WireError("a label is cut off")
        labels[index] = packed[at : at + size]
        at += size
    if at != len(packed) or sorted(labels) != list(range(count)):
        raise WireError(f"{count} labels do not fill {len(packed)} bytes")
    return [labels[index] for index in range(count)]
