"""The interface of a lowering: one operation, its arguments, and the values computed so far.

A lowering is a function that is registered here by the op's MIL name, see :mod:`worker.ops`. It
takes a :class:`Call` and returns the values of the op's outputs.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import values
from .values import Array

Lower = Callable[["Call"], Any]
OPS: dict[str, Lower] = {}
_NUMPY: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bool": np.bool_} | {
    f"{sign}int{bits}": np.dtype(f"{sign}int{bits}").type
    for sign in ("", "u")
    for bits in (8, 16, 32)
}


class UnknownOpsError(Exception):
    """A program has ops without a lowering; raised before anything is built."""

    def __init__(self, ops: Sequence[str], why: str = "") -> None:
        super().__init__(why or f"no lowering to Core AI of {', '.join(ops)}")
        self.facts = {"ops": list(ops)}


def op(*names: str) -> Callable[[Lower], Lower]:
    """Registers a function as the lowering of these MIL ops."""

    def register(function: Lower) -> Lower:
        for name in names:
            assert name not in OPS, name
            OPS[name] = function
        return function

    return register


@dataclass
class Handover:
    """A program and its constants, as :mod:`asrbuild.coreai.handover` describes them."""

    functions: list[dict[str, Any]]
    weights: Any

    @classmethod
    def read(cls, folder: Path) -> Handover:
        """Reads a hand-over; maps the constants into memory."""
        program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
        file = folder / "weights.bin"
        data: Any = b""
        if file.stat().st_size:
            with file.open("rb") as opened:
                data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(program["functions"], data)

    def literal(self, held: Mapping[str, Any]) -> Any:
        """A constant: an array, a text, or a list of texts."""
        if "text" in held or "texts" in held:
            return held.get("text", held.get("texts"))
        shape = held["shape"]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self.weights, held["numpy"], count, held["offset"]).reshape(shape)


@dataclass
class Lowering:
    """The state of lowering one function.

    Args:
        handover: the hand-over with its constants.
        constants: name -> constant of the function.
        wide: replace half precision by single: constants keep their values, arithmetic is single.
    """

    handover: Handover
    constants: Mapping[str, Any]
    wide: bool
    known: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    folded: dict[str, Array] = field(default_factory=dict)
    first: Any = None

    def dtype(self, name: str) -> Any:
        """The numpy type of a MIL type."""
        found = _NUMPY[name]
        return np.float32 if self.wide and found is np.float16 else found

    def is_known(self, name: str) -> bool:
        """Whether a name is a constant, or a value folded to one."""
        return name in self.constants or name in self.folded

    def literal(self, name: str) -> Any:
        """The array of a constant, or of a folded value."""
        if name in self.folded:
            return self.folded[name]
        value = self.handover.literal(self.constants[name])
        if self.wide and isinstance(value, np.ndarray) and value.dtype == np.float16:
            return value.astype(np.float32)
        return value

    def value(self, name: str) -> Any:
        """The Core AI value of a name."""
        if name in self.known:
            return self.known[name]
        return values.const(self.literal(name))


@dataclass(frozen=True)
class Call:
    """One operation: its arguments, and the declared types of its outputs."""

    lowering: Lowering
    operation: Mapping[str, Any]

    @property
    def type(self) -> str:
        """The op's MIL name."""
        return str(self.operation["type"])

    @property
    def name(self) -> str:
        """The operation's own name."""
        return str(self.operation["name"])

    @property
    def blocks(self) -> list[Any]:
        """The blocks of the operation."""
        return list(self.operation["blocks"])

    def has(self, argument: str) -> bool:
        """Whether the argument is given."""
        return argument in self.operation["inputs"]

    def value(self, argument: str) -> Any:
        """The Core AI value of an argument."""
        (name,) = self.operation["inputs"][argument]
        return self.lowering.value(name)

    def values(self, argument: str) -> list[Any]:
        """The values of an argument that takes one or several."""
        return [self.lowering.value(name) for name in self.operation["inputs"][argument]]

    def names(self, argument: str) -> list[str]:
        """The names of the values of an argument."""
        return list(self.operation["inputs"][argument])

    def is_constant(self, argument: str) -> bool:
        """Whether an argument is given, and constant."""
        names = self.operation["inputs"].get(argument, ())
        return len(names) == 1 and self.lowering.is_known(names[0])

    def array(self, argument: str, default: Any = None) -> Any:
        """The array of a constant argument; ``default`` if it is not given.

        Raises:
            UnknownOpsError: the argument is computed, which this op's lowering does not support.
        """
        if not self.has(argument):
            return default
        if not self.is_constant(argument):
            raise self.refused(f"a computed {argument}")
        return self.lowering.literal(self.names(argument)[0])

    def dtype(self, argument: str) -> str:
        """The declared type of a constant argument, such as ``uint4``."""
        return str(self.lowering.constants[self.names(argument)[0]]["dtype"])

    def number(self, argument: str, default: Any = None) -> Any:
        """A constant argument of one element, as a Python number or text."""
        value = self.array(argument, default)
        return value.reshape(()).item() if isinstance(value, np.ndarray) else value

    def shape(self, output: int = 0) -> list[int | None]:
        """The declared shape of an output; None for an unknown size."""
        return list(self.operation["outputs"][output]["shape"])

    def output_dtype(self, output: int = 0) -> Any:
        """The numpy type of an output."""
        return self.lowering.dtype(self.operation["outputs"][output]["dtype"])

    def refused(self, what: str) -> UnknownOpsError:
        """The error for a form of this op without a lowering."""
        return UnknownOpsError([self.type], f"no lowering to Core AI of {self.type} with {what}")
