"""The registry of ops: every op of the executor, by the name of its MIL op or layer.

To add an op, add a function to the module of its family (``mil/`` or ``nn/``), decorate it with its
name, and name its arguments as the MIL reference does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

OpFunction = TypeVar("OpFunction", bound=Callable[..., Any])
#: The fix in every error about an op or a setting that the executor lacks.
NOT_HERE = "run the package with Core ML on a Mac; docs/executor-ops.md lists what runs here"


@dataclass(frozen=True)
class MilOp:
    """One MIL op.

    ``run`` takes the op's inputs by position, in the order of its own signature; an absent optional
    input has the signature's default. ``parameters`` are that signature's (name, default).

    ``arithmetic``: float16 inputs are widened to float32, and the result is rounded once to the
    declared type: float16 storage with float32 accumulation. Ops that only move values get
    unchanged inputs.

    ``wide_constants``: only float16 constants are widened to float32; for ops that compute in
    float32 and round in their own way.

    ``owns``: the input that ``run`` may overwrite; the executor passes a private copy unless the
    array has no other reference.

    ``structural``: ``run`` is called once, at compile time, and returns the step.
    """

    name: str
    run: Callable[..., Any]
    parameters: tuple[tuple[str, Any], ...]
    arithmetic: bool = False
    wide_constants: bool = False
    owns: str | None = None
    structural: bool = False


@dataclass(frozen=True)
class NnLayer:
    """One neural network layer: ``compile(layer, weights)`` returns ``run(*inputs)``.

    ``layer`` is the ``NeuralNetworkLayer`` message; parameters are read from it once.
    """

    name: str
    compile: Callable[..., Callable[..., Any]]
    structural: bool = False


MIL_OPS: dict[str, MilOp] = {}
NN_LAYERS: dict[str, NnLayer] = {}
REQUIRED = inspect.Parameter.empty


def mil_op(
    *names: str, arithmetic: bool = False, wide_constants: bool = False, owns: str | None = None
) -> Callable[[OpFunction], OpFunction]:
    """Registers a function as the MIL op of these names."""

    def register(function: OpFunction) -> OpFunction:
        parameters = tuple(
            (parameter.name, parameter.default)
            for parameter in inspect.signature(function).parameters.values()
        )
        for name in names:
            op = MilOp(name, function, parameters, arithmetic, wide_constants, owns)
            _add(MIL_OPS, name, op)
        return function

    return register


def mil_structure(*names: str) -> Callable[[OpFunction], OpFunction]:
    """Registers a function that compiles an op with blocks, constants or state."""

    def register(function: OpFunction) -> OpFunction:
        for name in names:
            _add(MIL_OPS, name, MilOp(name, function, (), structural=True))
        return function

    return register


def nn_layer(*names: str) -> Callable[[OpFunction], OpFunction]:
    """Registers a function as the compiler of the layers with these ``oneof`` names."""

    def register(function: OpFunction) -> OpFunction:
        for name in names:
            _add(NN_LAYERS, name, NnLayer(name, function))
        return function

    return register


def nn_structure(*names: str) -> Callable[[OpFunction], OpFunction]:
    """Registers a function that compiles a layer with networks inside, or that names blobs."""

    def register(function: OpFunction) -> OpFunction:
        for name in names:
            _add(NN_LAYERS, name, NnLayer(name, function, structural=True))
        return function

    return register


def _add(table: dict[str, Any], name: str, entry: object) -> None:
    if name in table:
        raise ValueError(f"op {name} is registered twice")
    table[name] = entry
