"""Chooses the operations of an fp16 package that compute in float32.

The audio front end requires float32: the floor under its logarithm is below the range of half
precision, the power of a loud window above it, and samples have more bits. Measured on networks
with their own front end: float32 up to and including the first logarithm keeps the labels; float32
for only some of these operations does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asrbuild.base.errors import AsrbuildError

#: Operations with weights. A logarithm without any of them after it belongs to the outputs.
_WEIGHTED = ("conv", "linear", "matmul", "lstm", "gru", "rnn", "conv_transpose")
FRONT_END, NONE = "front_end", "none"


class Mixed:
    """A predicate of operations, ``mixed(op)``: whether one computes in half precision.

    Args:
        fp32: operations in single precision: ``front_end``: those up to the first logarithm of a
            function and its normalisation, if layers with weights come after it; ``none``; or names
            of operations or of their results.
        always: prefixes of names of operations that always compute in single precision.
    """

    def __init__(self, fp32: str | Sequence[str], always: str | None = None) -> None:
        self._fp32 = fp32
        self._always = always
        #: Function -> names of the operations up to its first logarithm.
        self._before: dict[int, frozenset[str]] = {}
        self.met: set[str] = set()

    def __call__(self, op: Any) -> bool:
        """Whether an operation of a MIL program computes in half precision."""
        if self._always and op.name.startswith(self._always):
            return False
        if self._fp32 == NONE:
            return True
        if self._fp32 == FRONT_END:
            function = _function(op)
            if id(function) not in self._before:
                self._before[id(function)] = up_to_first_log(function)
            return op.name not in self._before[id(function)]
        named = {op.name, *(value.name for value in op.outputs)}.intersection(self._fp32)
        self.met |= named
        return not named

    def check(self) -> None:
        """Raises if no operation of the program had one of the names.

        Raises:
            AsrbuildError: it lists these names.
        """
        if isinstance(self._fp32, str):
            return
        if missing := [name for name in self._fp32 if name not in self.met]:
            raise AsrbuildError(
                f"the program has no operation {', '.join(missing)}",
                key="coreml.fp32",
                fix="name operations as `asrbuild inspect model` lists them, or leave it out",
            )


def up_to_first_log(function: Any) -> frozenset[str]:
    """Names of the first logarithm of a function and of the operations that it depends on.

    The normalisation of the logarithms is included: half precision keeps only two decimals of
    values up to 20. Empty if no operation with weights depends on the logarithm: it belongs to the
    outputs then.
    """
    first = next((op for op in function.operations if op.op_type == "log"), None)
    if first is None:
        return frozenset()
    after: set[int] = set()
    waiting = [first]
    while waiting:
        op = waiting.pop()
        for value in op.outputs:
            fresh = [child for child in value.child_ops if id(child) not in after]
            after.update(map(id, fresh))
            waiting += fresh
        if op is not first and op.op_type in _WEIGHTED:
            return _with_normalisation(function, _upstream(first))
    return frozenset()


def _with_normalisation(function: Any, names: set[str]) -> frozenset[str]:
    """These operations, and later ones that depend only on them and have no weights."""
    for op in function.operations:
        made_by = [value.op for value in _inputs(op) if value.op is not None]
        computed = {source.name for source in made_by if source.op_type != "const"}
        given = any(value.op is None for value in _inputs(op))  # an input or a state
        if computed and computed <= names and not given and op.op_type not in _WEIGHTED:
            names.add(op.name)
    return frozenset(names)


def _upstream(op: Any) -> set[str]:
    names: set[str] = set()
    waiting = [op]
    while waiting:
        current = waiting.pop()
        if current.name in names:
            continue
        names.add(current.name)
        waiting += [value.op for value in _inputs(current) if value.op is not None]
    return names


def _inputs(op: Any) -> list[Any]:
    values: list[Any] = []
    for value in op.inputs.values():
        values += value if isinstance(value, (list, tuple)) else [value]
    return [value for value in values if value is not None]


def _function(op: Any) -> Any:
    """The outermost block of an operation."""
    block = op.enclosing_block
    while block.outer_op is not None:
        block = block.outer_op.enclosing_block
    return block
