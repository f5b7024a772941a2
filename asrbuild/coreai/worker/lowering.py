"""Lowers a hand-over to a Core AI program, each operation by the function of its op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import values
from .apple import DictAttr, StringAttr, authoring, raw, tensor_type
from .call import OPS, Call, Handover, Lowering, UnknownOpsError
from .folding import fold
from .values import dims


def check_ops(functions: Sequence[Mapping[str, Any]]) -> None:
    """Raises if a program has ops without a lowering.

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


def _define(lowering: Lowering, outputs: Sequence[Mapping[str, Any]], made: Any) -> None:
    """Defines the values of an operation's outputs; folded ones are arrays."""
    results = made if isinstance(made, list | tuple) else [made]
    for declared, value in zip(outputs, results, strict=True):
        if isinstance(value, np.ndarray):
            lowering.folded[declared["name"]] = value
        else:
            lowering.known[declared["name"]] = refined(value, declared["shape"])


def lower_block(lowering: Lowering, block: Mapping[str, Any]) -> list[Any]:
    """Lowers the operations of a block; returns the values of its outputs."""
    for operation in block["operations"]:
        call = Call(lowering, operation)
        try:
            made = fold(call)
            made = OPS[call.type](call) if made is None else made
            _define(lowering, operation["outputs"], made)
        except UnknownOpsError:
            raise
        except Exception as error:
            raise ValueError(f"op {call.name} ({call.type}): {error}") from error
    return [lowering.value(name) for name in block["outputs"]]


def refined(value: Any, shape: Sequence[int | None]) -> Any:
    """A value with its declared static sizes, if Core AI's inference has lost them."""
    have = dims(value)
    if len(have) != len(shape):
        # coremltools declares a select of two scalars as a scalar, whatever the condition's shape
        # is.
        return value
    wanted = [known if known is not None else size for known, size in zip(shape, have, strict=True)]
    if wanted.count(None) < have.count(None) and wanted.count(None) <= 1:
        return values.reshaped(value, wanted)
    return value


def build(handover: Handover, *, wide: bool = False, keep_all: bool = False) -> Any:
    """Builds a module with every function of a hand-over, and one for each enumerated size.

    Raises:
        UnknownOpsError: an op has no lowering.
    """
    check_ops(handover.functions)
    values.forget_blobs()

    def add() -> None:
        for function in handover.functions:
            for size in function["sizes"] or [{}]:
                _add_function(handover, function, size, wide=wide, keep_all=keep_all)

    # The asset's bytes contain the frame's file and line, so both must be constant.
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
    """Adds a graph; each state is an argument with an output that replaces it."""
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
        results = dict(zip(block["given"], lower_block(lowering, block), strict=True))
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
