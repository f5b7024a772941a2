"""Lowers a whole graph, node by node, inside of a function of coremltools' builder.

A MIL value has the name of its ONNX tensor, so that both can be compared at every node of the
graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from asrbuild.architectures.onnx.folding import constant_of, evaluate
from asrbuild.architectures.onnx.graph import Graph, Node

# Importing these modules registers the lowerings of their ops.
from asrbuild.architectures.onnx.lowering import (  # noqa: F401
    arithmetic,
    convolution,
    functions,
    indexing,
    linear,
    normalization,
    parts,
    recurrent,
    reduction,
    shapes,
    sizes,
    slicing,
)
from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import LOWERINGS, NodeCall, Var
from asrbuild.architectures.onnx.lowering.values import Value, is_known, is_sizes, settled
from asrbuild.architectures.onnx.patterns import recognise
from asrbuild.base.errors import AsrbuildError

#: Ops that are computed at conversion, or not at all.
_COMPUTED = ("Constant", "Shape", "Size")
_INSTEAD = {
    "Loop": "export recurrent layers as LSTM, GRU or RNN nodes, and unroll other loops",
    "Scan": "export recurrent layers as LSTM, GRU or RNN nodes, and unroll other loops",
    "If": "pin the input that the condition is computed from (source.config.pin)",
}
_INTEGER = "export the model in float32: Core ML's own compression is coreml.compress"


def missing(graph: Graph) -> Iterator[AsrbuildError]:
    """Yields an error for each op of a folded graph without a Core ML form, with its first node."""
    seen = set()
    for node in _nodes(graph):
        if node.op not in LOWERINGS and node.op not in (*_COMPUTED, "If") and node.op not in seen:
            seen.add(node.op)
            yield _no_form(node)


def _nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for value in node.attributes.values():
            if isinstance(value, Graph) and node.op == "If":
                yield from _nodes(value)


def _no_form(node: Node) -> AsrbuildError:
    integer = "Integer" in node.op or "Quantize" in node.op or node.op.startswith("QLinear")
    return AsrbuildError(
        f"node {node.name} is {node.op}, an op without a Core ML form",
        key="source.path",
        fix=_INTEGER if integer else _INSTEAD.get(node.op, "cut the graph behind it"),
    )


def lower(
    graph: Graph, inputs: Mapping[str, Var], outputs: Iterable[str] | None = None
) -> dict[str, Var]:
    """Writes the ops of a graph into the builder's current function, all in float32.

    Args:
        graph: a folded graph; see :func:`asrbuild.architectures.onnx.folding.fold`.
        inputs: name in the graph -> input of the function; a length may be a known array.
        outputs: names of requested outputs; None: all.

    Returns:
        Name -> output; no two are the same value, and none is an input.

    Raises:
        AsrbuildError: a node has no Core ML form; it names the node.
    """
    walk = _Walk(inputs)
    walk.run(recognise(graph))
    made: dict[str, Var] = {}
    for name in outputs or [tensor.name for tensor in graph.outputs]:
        value = walk.op_input(walk.values[name])
        if is_known(value):
            value = mb.const(val=value)
        if value.dtype.__name__ == "bool":
            value = mb.cast(x=value, dtype="fp32")
        if value in made.values() or value in inputs.values() or value.op is None:
            value = mb.identity(x=value)
        made[name] = value
    return made


class _Walk:
    """The lowering of a graph, with the values of the tensors so far."""

    def __init__(self, inputs: Mapping[str, Value]) -> None:
        self.values: dict[str, Value] = dict(inputs)
        self.size_ops = sizes.SizeOps()
        self.named: set[int] = set()
        for value in inputs.values():
            self.size_ops.note(value)
            self.named.add(id(value))

    def run(self, graph: Graph) -> None:
        """Lowers a graph, or a branch of an If."""
        self.values |= graph.constants
        for node in graph.nodes:
            given = [self.values[name] if name else None for name in node.inputs]
            made = self.lower(node, given)
            made = made if isinstance(made, (list, tuple)) else [made]
            for name, value in zip(node.outputs, made, strict=False):
                if name and value is not None:
                    self.values[name] = self._enter(name, value)

    def lower(self, node: Node, given: list[Value]) -> Any:
        if node.op == "If":
            return self._branch(node, given[0])
        if node.op == "Constant":
            return constant_of(node)
        if all(value is None or is_known(value) for value in given):
            if (found := evaluate(node, given)) is not None:
                return found
        elif (size := sizes.compute(node, given)) is not None:
            return size
        if node.op not in LOWERINGS:
            raise _no_form(node)
        try:
            return LOWERINGS[node.op](NodeCall(node, self.size_ops), *given)
        except AsrbuildError:
            raise
        except Exception as error:  # coremltools raises errors of any class
            lines = str(error).splitlines() or [type(error).__name__]
            raise AsrbuildError(
                f"node {node.name} is {node.op}, which coremltools refuses here: {lines[0]}",
                key="source.path",
                fix="export the model with fixed sizes, or cut the graph behind it",
            ) from error

    def _branch(self, node: Node, condition: Value) -> list[Value]:
        if not is_known(condition):
            raise _no_form(node)
        branch = node.attributes["then_branch" if condition.all() else "else_branch"]
        self.run(branch)
        return [self.values[tensor.name] for tensor in branch.outputs]

    def op_input(self, value: Value) -> Any:
        """A value as the input of an op."""
        return NodeCall(Node("", "", (), (), {}), self.size_ops).var(value)

    def _enter(self, name: str, value: Value) -> Value:
        if is_sizes(value):
            return settled(value)
        if is_known(value):
            return value
        self.size_ops.note(value)
        if id(value) not in self.named and value.op is not None:
            self.named.add(id(value))
            value.name = name
            if len(value.op.outputs) == 1:
                value.op.name = name
        return value
