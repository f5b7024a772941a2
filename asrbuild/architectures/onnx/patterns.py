"""Recognises a layer normalisation that an exporter wrote as nine nodes.

    off = x - ReduceMean(x);  y = off / Sqrt(ReduceMean(Pow(off, 2)) + epsilon) * gamma + beta

coremltools recognises other forms of it, and those of GELU and SiLU.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from asrbuild.architectures.onnx.folding import kept_nodes, reads
from asrbuild.architectures.onnx.graph import Graph, Node
from asrbuild.base.array import Array

#: The first op set with LayerNormalization.
_OPSET = 17


def recognise(graph: Graph) -> Graph:
    """Replaces each layer normalisation by one node; its output keeps its name."""
    search = _Search(graph)
    nodes = [search.whole(node) or node for node in graph.nodes]
    kept = kept_nodes(nodes, [tensor.name for tensor in graph.outputs])
    needed = set().union(*map(reads, kept), (tensor.name for tensor in graph.outputs))
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return replace(graph, nodes=tuple(kept), constants=constants)


class _Search:
    """Searches from the last node of a pattern back to its first."""

    def __init__(self, graph: Graph) -> None:
        self.constants = graph.constants
        self.makers = {name: node for node in graph.nodes for name in node.outputs}
        outputs = [tensor.name for tensor in graph.outputs]
        self.readers = Counter([*outputs, *(n for node in graph.nodes for n in node.inputs)])

    def whole(self, last: Node) -> Node | None:
        """The layer normalisation that ends with a node; None if there is none."""
        if last.op != "Add":
            return None
        scaled, beta = self.split(last)
        product = self.made(scaled, "Mul")
        if product is None or beta is None:
            return None
        unit, gamma = self.split(product)
        if gamma is None or gamma.ndim != 1 or beta.shape != gamma.shape:
            return None
        found = self.unit(self.made(unit, "Div"))
        if found is None:
            return None
        x, epsilon = found
        names = [self.other(product, unit), self.other(last, scaled)]
        return Node(
            last.name,
            "LayerNormalization",
            (x, *names),
            last.outputs,
            {"axis": -1, "epsilon": epsilon},
            max(last.opset, _OPSET),
        )

    def unit(self, ratio: Node | None) -> tuple[str, float] | None:
        """The input of ``(x - mean) / sqrt(variance + epsilon)`` along the last axis."""
        root = self.made(ratio.inputs[1], "Sqrt") if ratio else None
        total = self.made(root.inputs[0], "Add") if root else None
        off = self.made(ratio.inputs[0], "Sub", once=False) if ratio else None
        if total is None or off is None:
            return None
        variance, epsilon = self.split(total)
        mean_square = self.made(variance, "ReduceMean")
        mean = self.made(off.inputs[1], "ReduceMean")
        if epsilon is None or epsilon.size != 1 or mean_square is None or mean is None:
            return None
        square = self.maker(mean_square.inputs[0])
        same = mean.inputs[0] == off.inputs[0] and self.is_square(square, off.outputs[0])
        if not same or not all(map(self.is_last_axis, (mean, mean_square))):
            return None
        return off.inputs[0], float(epsilon.ravel()[0])

    def is_square(self, node: Node | None, of: str) -> bool:
        """Whether a node squares a tensor."""
        if node is None or node.inputs[0] != of:
            return False
        if node.op == "Mul":
            return node.inputs[1] == of
        return node.op == "Pow" and self.number(node.inputs[1]) == 2.0

    def is_last_axis(self, mean: Node) -> bool:
        axes = mean.attributes.get("axes")
        if axes is None and len(mean.inputs) > 1 and mean.inputs[1] in self.constants:
            axes = self.constants[mean.inputs[1]].tolist()
        return axes == [-1] and mean.attributes.get("keepdims", 1) == 1

    def maker(self, name: str | None) -> Node | None:
        return None if name is None else self.makers.get(name)

    def made(self, name: str | None, op: str, *, once: bool = True) -> Node | None:
        """The node that makes a tensor, if it is this op and, with ``once``, has one reader."""
        node = self.maker(name)
        if node is None or node.op != op or (once and self.readers[node.outputs[0]] != 1):
            return None
        return node

    def split(self, node: Node) -> tuple[str | None, Array | None]:
        """The computed operand of a node with two operands, and the constant one."""
        for at in (0, 1):
            if node.inputs[at] in self.constants and node.inputs[1 - at] not in self.constants:
                return node.inputs[1 - at], self.constants[node.inputs[at]]
        return None, None

    def other(self, node: Node, name: str | None) -> str:
        return node.inputs[1] if node.inputs[0] == name else node.inputs[0]

    def number(self, name: str) -> float | None:
        array = self.constants.get(name)
        return float(np.ravel(array)[0]) if array is not None and array.size == 1 else None
