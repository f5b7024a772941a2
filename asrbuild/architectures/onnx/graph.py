"""An ONNX graph as plain data: nodes in the order in which they run, and known arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asrbuild.base.array import Array


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Args:
        dtype: numpy's name of the element type, such as ``float32``.
        shape: sizes; a text is the name of an open axis, None an open axis without a name. None:
            the file has no shape.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Node:
    """One operation.

    Args:
        name: the node's name; for a node without one, that of its first output.
        attributes: values as plain Python, arrays, or a :class:`Graph` for the branches of an If.
        opset: version of the op set of its domain in this file.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(repr=False)
    opset: int = 0

    def __str__(self) -> str:
        return f"{self.op} ({self.name})"


@dataclass(frozen=True)
class Graph:
    """A whole graph, or a branch of an If, which also reads tensors of the enclosing graph.

    ``tensors``: declared types and shapes of inner tensors.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array] = field(repr=False)
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def input(self, name: str) -> Tensor | None:
        """The input of this name; None if there is none."""
        return next((tensor for tensor in self.inputs if tensor.name == name), None)
