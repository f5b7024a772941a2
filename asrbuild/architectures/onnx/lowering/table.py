"""The table of ops with a Core ML form, and the arguments of an op's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.graph import Node
from asrbuild.architectures.onnx.lowering.sizes import SizeOps
from asrbuild.architectures.onnx.lowering.values import (
    Value,
    Var,
    is_known,
    is_sizes,
    narrow,
)
from asrbuild.base.errors import AsrbuildError

#: A lowering: takes the call and the values of the node's inputs, None for an absent one.
LowerNode = Callable[..., Any]
LOWERINGS: dict[str, LowerNode] = {}


def lowers(*ops: str) -> Callable[[LowerNode], LowerNode]:
    """Registers a function as the lowering of these ops."""

    def enter(function: LowerNode) -> LowerNode:
        for op in ops:
            LOWERINGS[op] = function
        return function

    return enter


class NoFormError(AsrbuildError):
    """An op, or a use of an op, has no Core ML form."""


@dataclass(frozen=True)
class NodeCall:
    """The interface of a lowering: one node with its attributes and values."""

    node: Node
    size_ops: SizeOps = field(repr=False)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attributes.get(name, default)

    def var(self, value: Value) -> Any:
        """A value for the builder: a ``Var``, or a known array in 32 bits."""
        if is_known(value):
            return narrow(value)
        return self.size_ops.vector(value) if is_sizes(value) else value

    def numbers(self, value: Value, what: str) -> list[Any]:
        """The elements of a known value or of sizes.

        Raises:
            NoFormError: they are known only at run time; the error has the text ``what``.
        """
        found = self.numbers_or_none(value)
        if found is None:
            raise self.no_form(f"{what} that is computed from data")
        return found

    def numbers_or_none(self, value: Value) -> list[Any] | None:
        """As :meth:`numbers`, but None for an absent value."""
        if is_known(value):
            return [item.item() for item in value.ravel()]
        if is_sizes(value):
            return list(value.ravel())
        inferred = getattr(value, "val", None)
        return None if inferred is None else [item.item() for item in np.ravel(inferred)]

    def constant(self, value: Value, what: str) -> Any:
        """A known value as float32 or int32.

        Raises:
            NoFormError: the value is known only at run time.
        """
        if not is_known(value):
            raise self.no_form(f"{what} that is computed from data")
        return narrow(value)

    def axes(self, value: Value = None) -> list[int] | None:
        """The axes of a node: an input in newer op sets, an attribute in older ones."""
        given = self.attribute("axes")
        if given is not None:
            return list(given)
        return None if value is None else self.numbers(value, "axes")

    def no_form(self, what: str) -> NoFormError:
        """The error for a use of an op without a Core ML form."""
        return NoFormError(
            f"node {self.node.name} is {self.node.op} with {what}, which has no Core ML form",
            key="source.path",
            fix="export the model without it, or cut the graph behind it",
        )


def shape_of(value: Value) -> list[Any]:
    """The sizes of a value's axes; some may be open."""
    return list(value.shape)


def rank_of(value: Value) -> int:
    """The number of a value's axes."""
    return len(value.shape)


__all__ = ["LOWERINGS", "NoFormError", "NodeCall", "Var", "lowers", "rank_of", "shape_of"]
