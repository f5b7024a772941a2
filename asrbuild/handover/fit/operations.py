"""Reads the operations of a package, with declared types and shapes, without running it.

Constants, and ``constexpr_*`` that unpack them, are values here, not operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.coreml.executor.nn.inside import inner_networks
from asrbuild.coreml.executor.package import Package, open_package
from asrbuild.coreml.features import FeatureSummary, read_feature
from asrbuild.coreml.stored import stored_weights

#: A shape; None is a size that the call decides.
ValueShape = tuple[int | None, ...]
#: Inputs, outputs and states.
FunctionFeatures = tuple[
    tuple[FeatureSummary, ...], tuple[FeatureSummary, ...], tuple[FeatureSummary, ...]
]
#: The type of a value without a declaration.
UNDECLARED = "undeclared"


@dataclass(frozen=True)
class OperationValue:
    """A value that an operation reads or writes.

    Args:
        name: its name in the package; empty for an inline constant.
        dtype: ``float16``, ``int32``, ``bool``, ``string``...; ``undeclared`` in a neural network.
        shape: None if it is not declared.
        constant: whether it is the same in every call.
        stored: place (file, offset) -> bytes of its weights; empty unless it is a constant with
            weights.
        literal: the ``MILSpec.Value`` of a small constant.
    """

    name: str
    dtype: str = UNDECLARED
    shape: ValueShape | None = None
    constant: bool = False
    stored: tuple[tuple[tuple[str, int], int], ...] = ()
    literal: Any = field(default=None, compare=False)

    @property
    def stored_bytes(self) -> int:
        return sum(size for _, size in self.stored)


@dataclass(frozen=True)
class Block:
    """Operations inside of another: a loop's condition and body, a branch."""

    label: str
    operations: tuple[Operation, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One operation of an ML program, or one layer of a neural network.

    Args:
        path: names of enclosing blocks and its own name, as in the executor: ``while_loop body >
            gates``.
        kind: ``linear``, or a layer's name in NeuralNetwork.proto, ``innerProduct``.
        operands: argument -> values; all blobs of a layer are the argument ``input``.
        results: in order; a compute plan has the name of the first.
        stored_bytes: bytes of weights inside a layer.
        message: the layer's own message, with its settings.
    """

    path: str
    kind: str
    operands: Mapping[str, tuple[OperationValue, ...]]
    results: tuple[OperationValue, ...]
    inner: tuple[Block, ...] = ()
    layer_bytes: int = 0
    message: Any = field(default=None, compare=False, repr=False)

    @property
    def values(self) -> tuple[OperationValue, ...]:
        """All values that it reads, then all values that it writes."""
        return (*(v for values in self.operands.values() for v in values), *self.results)

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of its weights."""
        return self.layer_bytes + sum(value.stored_bytes for value in self.values)

    def operand(self, name: str) -> OperationValue | None:
        """The first value of an argument; None if it is not given."""
        return next(iter(self.operands.get(name, ())), None)


@dataclass(frozen=True)
class PackagePart:
    """One function of a package, or one part of a pipeline."""

    name: str
    format: str
    inputs: tuple[FeatureSummary, ...]
    outputs: tuple[FeatureSummary, ...]
    states: tuple[FeatureSummary, ...]
    operations: tuple[Operation, ...]
    results: tuple[str, ...]


def walk(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yields every operation in program order, each before those in its blocks."""
    for operation in operations:
        yield operation
        for block in operation.inner:
            yield from walk(block.operations)


def stored_bytes(functions: Iterable[PackagePart]) -> int:
    """Stored bytes of all weights; weights shared by operations or functions count once."""
    places: dict[object, int] = {}
    for function in functions:
        for operation in walk(function.operations):
            places[function.name, operation.path] = operation.layer_bytes
            places |= dict(stored for value in operation.values for stored in value.stored)
    return sum(places.values())


def read_functions(path: Path) -> dict[str, PackagePart]:
    """The functions of a package by name, the default function first.

    A neural network has the function ``main``, a pipeline one for each part. A model of another
    type (a tree ensemble, a vocabulary) has no operations.

    Raises:
        AsrbuildError: the package does not exist or is damaged.
    """
    return {function.name: function for function in functions_of(open_package(path))}


def functions_of(package: Package) -> tuple[PackagePart, ...]:
    """As ``read_functions``, for an open package.

    Raises:
        AsrbuildError: the package is damaged.
    """
    try:
        return tuple(_functions(package, package.spec, ""))
    except (IndexError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise AsrbuildError(
            f"the package's operations are inconsistent: {error or type(error).__name__}",
            file=package.path,
            fix="the package is damaged: build it again, or copy it again from a good copy",
        ) from error


def _functions(package: Package, spec: Any, prefix: str) -> Iterator[PackagePart]:
    kind = spec.WhichOneof("Type")
    described = spec.description
    if kind == "mlProgram":
        each = list(described.functions) or [described]
        default = described.defaultFunctionName or getattr(each[0], "name", "") or "main"
        each.sort(key=lambda item: getattr(item, "name", "") != default)
        for item in each:
            name = getattr(item, "name", "") or default
            yield _program(spec.mlProgram.functions[name], item, f"{prefix}{name}")
        return
    if kind.startswith("pipeline"):
        inner = getattr(spec, kind)
        pipeline = inner if kind == "pipeline" else inner.pipeline
        for number, part in enumerate(pipeline.models):
            yield from _functions(package, part, f"{prefix}part {number + 1}/")
        return
    layers: tuple[Operation, ...] = ()
    if kind.startswith("neuralNetwork"):
        layers = _layers(getattr(spec, kind), package.weights, ())
    outputs = tuple(item.name for item in described.output)
    yield PackagePart(f"{prefix}main", kind, *_features(described), layers, outputs)


def _features(described: Any) -> FunctionFeatures:
    inputs, outputs, states = (
        tuple(map(read_feature, side))
        for side in (described.input, described.output, described.state)
    )
    return inputs, outputs, states


def _program(function: Any, described: Any, name: str) -> PackagePart:
    block = function.block_specializations[function.opset]
    known = {named.name: _declared(named) for named in function.inputs}
    operations = _operations(block, known, ())
    return PackagePart(name, "mlProgram", *_features(described), operations, tuple(block.outputs))


def _operations(
    block: Any, known: Mapping[str, OperationValue], path: tuple[str, ...]
) -> tuple[Operation, ...]:
    known = {**known, **{named.name: _declared(named) for named in block.inputs}}
    found = []
    for operation in block.operations:
        if operation.type == "const" or operation.type.startswith("constexpr_"):
            known[operation.outputs[0].name] = _constant(operation, known)
            continue
        operands = {
            name: tuple(
                known.get(binding.name, OperationValue(binding.name))
                if binding.WhichOneof("binding") == "name"
                else _literal("", binding.value)
                for binding in argument.arguments
            )
            for name, argument in sorted(operation.inputs.items())
        }
        results = tuple(map(_declared, operation.outputs))
        known |= {value.name: value for value in results}
        inner = tuple(
            Block(label, _operations(each, known, (*path, label)), tuple(each.outputs))
            for label, each in zip(_labels(operation), operation.blocks, strict=True)
        )
        own = " > ".join([*path, _own_name(operation)])
        found.append(Operation(own, operation.type, operands, results, inner))
    return tuple(found)


def _labels(operation: Any) -> tuple[str, ...]:
    """The executor's names of the blocks of an operation."""
    if operation.type == "while_loop":
        return ("while_loop condition", "while_loop body")
    if operation.type == "cond":
        return ("cond true", "cond false")
    return tuple(f"{operation.type} {number}" for number, _ in enumerate(operation.blocks))


def _own_name(operation: Any) -> str:
    if "name" in operation.attributes:
        names = operation.attributes["name"].immediateValue.tensor.strings.values
        if names:
            return str(names[0])
    return operation.outputs[0].name if operation.outputs else str(operation.type)


def _declared(named: Any) -> OperationValue:
    return OperationValue(named.name, *_type(named.type))


def _type(value_type: Any) -> tuple[str, ValueShape | None]:
    """Element type and shape of a tensor, or of a state's tensor."""
    if value_type.WhichOneof("type") == "stateType":
        return _type(value_type.stateType.wrappedType)
    if value_type.WhichOneof("type") != "tensorType":
        return UNDECLARED, None
    tensor = value_type.tensorType
    names = {number: name.lower() for name, number in coremlproto.mil().DataType.items()}
    shape = tuple(
        int(dimension.constant.size) if dimension.WhichOneof("dimension") == "constant" else None
        for dimension in tensor.dimensions
    )
    return names.get(tensor.dataType, UNDECLARED), shape


def _constant(operation: Any, known: Mapping[str, OperationValue]) -> OperationValue:
    """The value of a ``const``, or of a ``constexpr_*`` that unpacks weights."""
    stored = {place: size for place, _, size in stored_weights(operation)}
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name" and binding.name in known:
                stored |= dict(known[binding.name].stored)
    made = _declared(operation.outputs[0])
    literal = operation.attributes.get("val")
    if literal is not None and literal.WhichOneof("value") != "immediateValue":
        literal = None
    return OperationValue(made.name, made.dtype, made.shape, True, tuple(stored.items()), literal)


def _literal(name: str, value: Any) -> OperationValue:
    dtype, shape = _type(value.type)
    return OperationValue(name, dtype, shape, constant=True, literal=value)


def _layers(network: Any, weights: Any, path: tuple[str, ...]) -> tuple[Operation, ...]:
    found = []
    for layer in network.layers:
        inside = inner_networks(layer)
        labels = _LAYER_BLOCKS.get(layer.WhichOneof("layer"), ())
        inner = tuple(
            Block(label, _layers(each, weights, (*path, f"{layer.name} {label}")), ())
            for label, each in zip(labels, inside, strict=True)
        )
        found.append(
            Operation(
                " > ".join([*path, layer.name]),
                layer.WhichOneof("layer") or "unknown",
                {"input": tuple(OperationValue(name) for name in layer.input)},
                tuple(OperationValue(name) for name in layer.output),
                inner,
                0 if inside or weights is None else weights.stored_bytes(layer),
                layer,
            )
        )
    return tuple(found)


#: The executor's names of the networks inside a layer.
_LAYER_BLOCKS = {"loop": ("condition", "body"), "branch": ("if", "else")}
