"""From a hand-over to a Core AI program: a walk over its operations, each lowered by its function.

An op's function is registered in :mod:`worker.ops` with its MIL name. It takes a :class:`Call` and
gives the values of the op's outputs.
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
from .apple import DictAttr, StringAttr, authoring, raw, tensor_type
from .folding import fold
from .values import Array, dims

Lower = Callable[["Call"], Any]
OPS: dict[str, Lower] = {}
_NUMPY: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bool": np.bool_} | {
    f"{sign}int{bits}": np.dtype(f"{sign}int{bits}").type
    for sign in ("", "u")
    for bits in (8, 16, 32)
}


class UnknownOpsError(Exception):
    """Ops that have no lowering; found before anything is built."""

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
        """Reads a hand-over; the constants stay mapped."""
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


def check_ops(functions: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a program with ops that have no lowering.

    Raises:
        UnknownOpsError: it names all of them.
    """
    found: set[str] = set()

    def walk(block: Mapping[str, Any]) -> None:
        for operation in block["operations"]:
            found.add(operation["type"])
            for inner in operation["blocks"]:
                walk(inner)

    for function in functions:
        walk(function["block"])
    unknown = sorted(found - set(OPS))
    if unknown:
        raise UnknownOpsError(unknown)


@dataclass
class Lowering:
    """The lowering of one function.

    Args:
        handover: where its constants are.
        constants: of the function, by name.
        wide: hold half precision in single: constants keep their values, arithmetic is single.
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
        """Whether a name is a constant, or was folded to one."""
        return name in self.constants or name in self.folded

    def literal(self, name: str) -> Any:
        """A constant of the program, or a folded one."""
        if name in self.folded:
            return self.folded[name]
        value = self.handover.literal(self.constants[name])
        if self.wide and isinstance(value, np.ndarray) and value.dtype == np.float16:
            return value.astype(np.float32)
        return value

    def value(self, name: str) -> Any:
        """The value of this name."""
        if name in self.known:
            return self.known[name]
        return values.const(self.literal(name))

    def _define(self, outputs: Sequence[Mapping[str, Any]], made: Any) -> None:
        """Gives an operation's outputs their values: folded ones are arrays."""
        results = made if isinstance(made, list | tuple) else [made]
        for declared, value in zip(outputs, results, strict=True):
            if isinstance(value, np.ndarray):
                self.folded[declared["name"]] = value
            else:
                self.known[declared["name"]] = refined(value, declared["shape"])

    def block(self, block: Mapping[str, Any]) -> list[Any]:
        """Lowers the operations of a block; the values of its outputs."""
        for operation in block["operations"]:
            call = Call(self, operation)
            try:
                made = fold(call)
                made = OPS[call.type](call) if made is None else made
                self._define(operation["outputs"], made)
            except UnknownOpsError:
                raise
            except Exception as error:
                raise ValueError(f"op {call.name} ({call.type}): {error}") from error
        return [self.value(name) for name in block["outputs"]]


@dataclass(frozen=True)
class Call:
    """One operation: its arguments, and what the program declares of its outputs."""

    lowering: Lowering
    operation: Mapping[str, Any]

    @property
    def type(self) -> str:
        return str(self.operation["type"])

    @property
    def name(self) -> str:
        return str(self.operation["name"])

    @property
    def blocks(self) -> list[Any]:
        return list(self.operation["blocks"])

    def has(self, argument: str) -> bool:
        """Whether the argument is given."""
        return argument in self.operation["inputs"]

    def value(self, argument: str) -> Any:
        """An argument as a value of the program."""
        (name,) = self.operation["inputs"][argument]
        return self.lowering.value(name)

    def values(self, argument: str) -> list[Any]:
        """An argument that takes one or several values."""
        return [self.lowering.value(name) for name in self.operation["inputs"][argument]]

    def names(self, argument: str) -> list[str]:
        """The names that an argument is given as."""
        return list(self.operation["inputs"][argument])

    def is_constant(self, argument: str) -> bool:
        """Whether an argument is given and known."""
        names = self.operation["inputs"].get(argument, ())
        return len(names) == 1 and self.lowering.is_known(names[0])

    def array(self, argument: str, default: Any = None) -> Any:
        """A constant argument; ``default`` where it is not given.

        Raises:
            UnknownOpsError: it is computed, which this op's lowering does not take.
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
        """A constant argument of one element as a Python number or text."""
        value = self.array(argument, default)
        return value.reshape(()).item() if isinstance(value, np.ndarray) else value

    def shape(self, output: int = 0) -> list[int | None]:
        """The declared shape of an output; None where a size is not known."""
        return list(self.operation["outputs"][output]["shape"])

    def output_dtype(self, output: int = 0) -> Any:
        """The numpy type of an output."""
        return self.lowering.dtype(self.operation["outputs"][output]["dtype"])

    def refused(self, what: str) -> UnknownOpsError:
        """The error of a form of this op that has no lowering."""
        return UnknownOpsError([self.type], f"no lowering to Core AI of {self.type} with {what}")


def refined(value: Any, shape: Sequence[int | None]) -> Any:
    """A value whose static sizes are said again where Core AI's inference has lost them."""
    have = dims(value)
    if len(have) != len(shape):
        # coremltools declares a select of two numbers as a number, whatever the condition is.
        return value
    wanted = [known if known is not None else size for known, size in zip(shape, have, strict=True)]
    if wanted.count(None) < have.count(None) and wanted.count(None) <= 1:
        return values.reshaped(value, wanted)
    return value


def build(handover: Handover, *, wide: bool = False, keep_all: bool = False) -> Any:
    """A module with every function of a hand-over; enumerated sizes have a function each.

    Raises:
        UnknownOpsError: an op has no lowering.
    """
    check_ops(handover.functions)
    values.forget_blobs()

    def add() -> None:
        for function in handover.functions:
            for size in function["sizes"] or [{}]:
                _add_function(handover, function, size, wide=wide, keep_all=keep_all)

    # The frame's file and line get into the asset's bytes.
    frame: dict[str, Any] = {"Module": authoring.Module, "add": add}
    exec(compile("module = Module.create()\nwith module: add()", "asrbuild", "exec"), frame)
    module = frame["module"]
    module.verify()
    return module


def function_name(function: str, size: Mapping[str, Sequence[int]]) -> str:
    """The name of a function for one enumerated size: ``main_1x16x19x26``."""
    return "_".join([function, *("x".join(map(str, shape)) for shape in size.values())])


def _add_function(
    handover: Handover,
    function: Mapping[str, Any],
    size: Mapping[str, Sequence[int]],
    *,
    wide: bool,
    keep_all: bool,
) -> None:
    """Adds a graph; the states are arguments with an output each that replaces them."""
    lowering = Lowering(handover, function["constants"], wide)
    inputs, states, block = function["inputs"], function["states"], function["block"]
    names = [value["name"] for value in inputs]
    types = [
        tensor_type(
            [-1 if known is None else known for known in size.get(value["name"], value["shape"])],
            lowering.dtype(value["dtype"]),
        )
        for value in inputs
    ]
    graph = raw.GraphOp(function_name(function["name"], size), types, [], names, [])
    with graph.block:
        lowering.known.update(zip(names, graph.arguments, strict=True))
        lowering.states = {name: lowering.known[name] for name in states}
        lowering.first = next((lowering.known[name] for name in names if name not in states), None)
        results = dict(zip(block["given"], lowering.block(block), strict=True))
        if keep_all:
            made = [value["name"] for op in block["operations"] for value in op["outputs"]]
            results |= {name: lowering.value(name) for name in made if name not in results}
        results |= {_next(name): lowering.states[name] for name in states}
        raw.OutputOp(list(results.values()))
        graph.outputs_spec = list(results.items())
    graph.arg_attrs = [
        DictAttr.get(
            {entry.name: entry.attr for entry in given}
            | (
                {"MutableBuffers.buffer_mutation": StringAttr.get(_next(name))}
                if name in states
                else {}
            )
        )
        for name, given in zip(names, graph.arg_attrs, strict=True)
    ]


def _next(state: str) -> str:
    return f"{state}_next"
