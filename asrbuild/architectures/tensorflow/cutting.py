"""Cuts a graph at tensors, which become inputs, and pins tensors, which become constants.

Nodes that only those tensors depend on are dropped. This removes operations without a Core ML form,
such as ``DecodeWav``, which reads a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from asrbuild.architectures.tensorflow.convertible import unconvertible
from asrbuild.architectures.tensorflow.proto import (
    FLOAT,
    DType,
    Graph,
    Node,
    Shape,
    constant,
    input_name,
    upstream,
)
from asrbuild.base.errors import AsrbuildError

#: Operations without a value, which others only wait for. coremltools computes nodes that do not
#: depend on an input, and fails at an assertion.
_VALUELESS = frozenset({"Assert", "NoOp"})
#: Operations that compute features, which an app can compute instead.
_FEATURES = ("AudioSpectrogram", "Mfcc")


@dataclass(frozen=True)
class Cut:
    """The type of the input that replaces a tensor."""

    dtype: DType = FLOAT
    shape: Shape | None = None


def full_name(tensor: str) -> str:
    """``Mfcc`` -> ``Mfcc:0``."""
    return tensor if ":" in tensor else f"{tensor}:0"


def typed(tensor: str) -> str:
    """A tensor's name as a key on the command line: ``decoded\\:1``."""
    return tensor.replace(":", "\\:")


def input_of(tensor: str) -> str:
    """The name of the placeholder that replaces a tensor; for a first output, its node's name."""
    node, _, index = full_name(tensor).rpartition(":")
    return node if index == "0" else f"{node}_{index}"


def cut_graph(
    graph: Graph, cuts: Mapping[str, Cut], pins: Mapping[str, Any], outputs: Sequence[str]
) -> Graph:
    """The graph from ``cuts`` to ``outputs``.

    Args:
        cuts: tensor, ``node`` or ``node:index`` -> its type.
        pins: tensor, or placeholder -> its value.
        outputs: the outputs of the cut graph.

    Raises:
        AsrbuildError: a tensor or output does not exist, or a node is cut at one of its tensors
        while another is still read.
    """
    _check(graph, {"cut": cuts, "pin": pins, "outputs": outputs})
    stand_ins: dict[str, Node] = {}
    for tensor, cut in cuts.items():
        attributes: dict[str, Any] = {"dtype": cut.dtype, "shape": cut.shape or Shape(None)}
        stand_ins[full_name(tensor)] = Node(input_of(tensor), "Placeholder", (), attributes)
    for tensor, value in pins.items():
        array = _typed(graph.by_name[input_name(tensor)], value)
        attributes = {"dtype": DType.of(array.dtype), "value": constant(array)}
        stand_ins[full_name(tensor)] = Node(input_of(tensor), "Const", (), attributes)
    gone = {input_name(tensor) for tensor in stand_ins}
    unwaited = gone | {node.name for node in graph.nodes if node.op in _VALUELESS}
    nodes = [_rewired(node, stand_ins, unwaited) for node in graph.nodes if node.name not in gone]
    whole = Graph(
        (*stand_ins.values(), *nodes), graph.producer, graph.nbytes, graph.path, graph.library
    )
    needed = upstream(_without_lost(whole), outputs)
    for node in nodes:
        lost = [ref for ref in node.inputs if node.name in needed and input_name(ref) in gone]
        lost = [ref for ref in lost if input_name(ref) not in whole.by_name or ":" in ref]
        if lost:
            raise AsrbuildError(
                f"the node {node.name} reads {lost[0]}, and the graph is cut at another tensor of "
                f"{input_name(lost[0])}",
                key="source.config.pin",
                file=graph.path,
                fix=f"pin it to a constant: +source.config.pin={{{typed(lost[0])}: 16000}}, or cut "
                f"the graph at it as well",
            )
    return replace(whole, nodes=tuple(node for node in whole.nodes if node.name in needed))


def _rewired(node: Node, stand_ins: Mapping[str, Node], unwaited: set[str]) -> Node:
    """A node that reads the stand-ins, and does not wait for ``unwaited``."""
    kept = [ref for ref in node.inputs if not (ref[:1] == "^" and input_name(ref) in unwaited)]
    inputs = tuple(
        stand_ins[full_name(ref)].name if full_name(ref) in stand_ins else ref for ref in kept
    )
    return replace(node, inputs=inputs)


def _without_lost(graph: Graph) -> Graph:
    """The graph without references to removed nodes."""
    known = graph.by_name
    return replace(
        graph,
        nodes=tuple(
            replace(node, inputs=tuple(ref for ref in node.inputs if input_name(ref) in known))
            for node in graph.nodes
        ),
    )


def _typed(node: Node, value: Any) -> np.ndarray[Any, Any]:
    """A pinned value in the type of its placeholder; for other tensors, int32 or float32."""
    dtype = node.attrs.get("dtype")
    if node.op == "Placeholder" and isinstance(dtype, DType) and dtype.numpy is not None:
        return np.asarray(value, dtype.numpy)
    array = np.asarray(value)
    return array.astype({"i": np.int32, "f": np.float32}.get(array.dtype.kind, array.dtype))


def _check(graph: Graph, names: Mapping[str, Iterable[str]]) -> None:
    for key, tensors in names.items():
        for tensor in tensors:
            if input_name(tensor) not in graph.by_name:
                raise AsrbuildError(
                    f"the graph has no tensor {tensor}",
                    key=f"source.config.{key}",
                    file=graph.path,
                    fix="`asrbuild inspect graph` lists its inputs, outputs and where to cut it",
                )


def suggested_cuts(graph: Graph, outputs: Sequence[str]) -> tuple[str, ...]:
    """Tensors to cut a graph at: after operations without a Core ML form, and features."""
    needed = upstream(graph, outputs)
    refused = {item.op for item in unconvertible(graph, outputs)}
    found: dict[str, None] = {}
    for node in graph.nodes:
        if node.name not in needed or node.op in refused:
            continue
        for reference in node.inputs:
            maker = graph.by_name[input_name(reference)]
            if maker.op in refused or (refused and maker.op in _FEATURES):
                found[reference.lstrip("^")] = None
    return tuple(found)
