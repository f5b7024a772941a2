"""Constant folding of a graph: constants are computed, branches chosen, unused nodes dropped.

The arithmetic is that of ``onnx.reference``, the standard's own implementation in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.graph import Graph, Node, Tensor
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: Limit of elements of a computed constant, because a few bytes of a file could create any number.
_MAX_ELEMENTS = 2**27
#: Ops whose result differs each time, or that a reader must not execute.
_NEVER = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"})
_GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "OneHot", "Resize"})


def fold(graph: Graph, pins: Mapping[str, Any], cuts: Sequence[str] = ()) -> Graph:
    """Folds a graph: the result has the same outputs and fewer nodes.

    Args:
        pins: name -> value of inputs or inner tensors that become constants.
        cuts: tensors that become inputs; nodes that only they depend on are dropped.

    Raises:
        AsrbuildError: an input or tensor does not exist, or a constant does not fit in memory.
    """
    graph = _cut(graph, [*cuts, *(name for name in pins if graph.input(name) is None)], pins)
    known = dict(graph.constants)
    for name, value in pins.items():
        tensor = graph.input(name)
        if tensor is None:  # nothing after a cut reads it
            continue
        array = np.asarray(value, tensor.dtype or None)
        if tensor.shape is not None and array.ndim < len(tensor.shape):
            array = array.reshape((1,) * (len(tensor.shape) - array.ndim) + array.shape)
        known[name] = array
    nodes: list[Node] = []
    _fold(graph, known, nodes)
    outputs = [tensor.name for tensor in graph.outputs]
    kept = kept_nodes(nodes, outputs)
    needed = set(outputs).union(*map(reads, kept))
    return replace(
        graph,
        nodes=tuple(kept),
        constants={name: array for name, array in known.items() if name in needed},
        inputs=tuple(tensor for tensor in graph.inputs if tensor.name not in pins),
    )


def kept_nodes(
    nodes: Sequence[Node], outputs: Sequence[str], cuts: Sequence[str] = ()
) -> list[Node]:
    """The nodes that the outputs depend on, in order, without those behind ``cuts``."""
    needed = set(outputs) - set(cuts)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed |= reads(node) - set(cuts)
    return kept[::-1]


def _cut(graph: Graph, cuts: Sequence[str], pins: Mapping[str, Any]) -> Graph:
    """The graph with these tensors as inputs, without inputs that no node reads then."""
    if not cuts:
        return graph
    made = {name for node in graph.nodes for name in node.outputs}
    if lost := [name for name in cuts if name not in made]:
        pinned = lost[0] in pins
        raise AsrbuildError(
            f"the model has no tensor {lost[0]} to {'pin' if pinned else 'cut at'}",
            key=f"source.config.{'pin' if pinned else 'cut'}",
            fix=f"its inputs are {', '.join(one.name for one in graph.inputs)}; "
            "`asrbuild inspect FILE` lists the tensors",
        )
    outputs = [tensor.name for tensor in graph.outputs]
    nodes = kept_nodes(graph.nodes, outputs, cuts)
    needed = set(outputs).union(*map(reads, nodes))
    inputs = tuple(tensor for tensor in graph.inputs if tensor.name in needed)
    added = tuple(graph.tensors.get(name, Tensor(name, "float32", None)) for name in cuts)
    return replace(graph, nodes=tuple(nodes), inputs=(*inputs, *added))


def reads(node: Node) -> set[str]:
    """The tensors that a node and its branches read."""
    names = set(node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Graph):
            names.update(*map(reads, value.nodes), (tensor.name for tensor in value.outputs))
    return names - {""}


def _fold(graph: Graph, known: dict[str, Array], nodes: list[Node]) -> None:
    for node in graph.nodes:
        given = [known.get(name) for name in node.inputs]
        if node.op == "Constant":
            known[node.outputs[0]] = constant_of(node)
        elif any(name and name not in known for name in node.inputs):
            nodes.append(node)
        elif node.op == "If":
            assert given[0] is not None
            branch = node.attributes["then_branch" if given[0].all() else "else_branch"]
            known.update(branch.constants)
            _fold(branch, known, nodes)
            for name, tensor in zip(node.outputs, branch.outputs, strict=True):
                if tensor.name in known:
                    known[name] = known[tensor.name]
                else:
                    nodes.append(replace(_IDENTITY, inputs=(tensor.name,), outputs=(name,)))
        elif (found := evaluate(node, given)) is not None:
            made = zip(node.outputs, found, strict=True)
            known.update((name, array) for name, array in made if array is not None)
        else:
            nodes.append(node)


_IDENTITY = Node("", "Identity", (), (), {})


def constant_of(node: Node) -> Array:
    """The value of a ``Constant`` node."""
    (value,) = node.attributes.values()
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], str)):
        return np.array(value)
    whole = isinstance(value, int) or (
        isinstance(value, list) and all(type(v) is int for v in value)
    )
    return np.array(value, np.int64 if whole else np.float32)


def evaluate(node: Node, inputs: Sequence[Array | None]) -> list[Array | None] | None:
    """The outputs of a node with known inputs; None if it must stay a node.

    Raises:
        AsrbuildError: the node cannot be computed, or its result would not fit in memory.
    """
    if node.op in _NEVER or any(isinstance(v, Graph) for v in node.attributes.values()):
        return None
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    _check_size(node, inputs)
    attributes = {
        name: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
        if not (isinstance(value, list) and not value)
    }
    names = [f"i{at}" if given is not None else "" for at, given in enumerate(inputs)]
    outputs = [f"o{at}" if name else "" for at, name in enumerate(node.outputs)]
    message = helper.make_node(node.op, names, outputs, **attributes)
    feeds = {name: given for name, given in zip(names, inputs, strict=True) if name}
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(message, opsets={"": node.opset}).run(
                list(filter(None, outputs)), feeds
            )
    except Exception as error:
        raise AsrbuildError(
            f"node {node.name} is {node.op}, which cannot be computed from its constants: {error}",
            key="source.path",
            fix="export the model again",
        ) from error
    values = iter(made)
    return [np.asarray(next(values)) if name else None for name in outputs]


def _check_size(node: Node, inputs: Sequence[Array | None]) -> None:
    shapes = [given.shape for given in inputs if given is not None]
    elements = max((math.prod(shape) for shape in shapes), default=0)
    if node.op in _GROWING:
        elements = _grown(node, inputs)
    elif len(shapes) > 1 and node.op not in ("Gather", "Slice", "Reshape", "Concat", "Pad"):
        try:
            elements = math.prod(np.broadcast_shapes(*shapes))
        # for ops such as convolution; others have no more elements than their inputs
        except ValueError:
            elements = max(
                elements, math.prod(shapes[0][:-1]) * shapes[1][-1] if all(shapes) else 0
            )
    if elements > _MAX_ELEMENTS:
        raise AsrbuildError(
            f"node {node.name} is {node.op} of {elements} elements, which is too large a constant",
            key="source.path",
            fix="export the model again",
        )


def _grown(node: Node, inputs: Sequence[Array | None]) -> int:
    """The number of elements of a result whose size is in the values of the inputs."""
    first, *rest = (np.asarray(given) for given in inputs if given is not None)
    if node.op == "ConstantOfShape":
        return math.prod(map(int, first))
    if node.op == "Range":
        span, step = float(rest[0]) - float(first), float(rest[1])
        return int(abs(span / step)) if step else _MAX_ELEMENTS + 1
    sizes = [abs(float(number)) for number in rest[0].ravel()] if rest else []
    if node.op == "Expand":
        return int(first.size * max(1, math.prod(sizes)))
    if node.op == "Pad":
        return int(math.prod(size + max(sizes, default=0) * 2 for size in first.shape))
    if node.op == "OneHot":
        return int(first.size * max(sizes, default=1))
    return int(first.size * math.prod(max(1, size) for size in sizes))
