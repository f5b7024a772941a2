"""What a Core ML package takes, gives and is made of, from its protobuf messages alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asrbuild import coremlproto
from asrbuild.executor.package import read_spec

#: ``ArrayFeatureType.ArrayDataType`` -> numpy's name.
_ARRAY_TYPES = {
    65552: "float16",
    65568: "float32",
    65600: "float64",
    131104: "int32",
    131080: "int8",
}
#: Specification version -> the oldest systems that load it (coremltools' table).
_MINIMUM_OS = {
    1: "iOS 11, macOS 10.13",
    2: "iOS 12, macOS 10.14",
    3: "iOS 12, macOS 10.14",
    4: "iOS 13, macOS 10.15",
    5: "iOS 14, macOS 11",
    6: "iOS 15, macOS 12",
    7: "iOS 16, macOS 13",
    8: "iOS 17, macOS 14",
    9: "iOS 18, macOS 15",
    10: "iOS 26, macOS 26",
}


@dataclass(frozen=True)
class Feature:
    """An input, output or state.

    ``axes``: per axis the smallest and largest size, ``None`` where it has no limit; ``shapes``:
    the enumerated ones. Both are ``None`` where the package does not say.
    """

    name: str
    dtype: str
    default: tuple[int, ...] | None
    axes: tuple[tuple[int, int | None], ...] | None
    shapes: tuple[tuple[int, ...], ...] | None
    optional: bool

    @property
    def shape_text(self) -> str:
        """``(1, 1..100, 19, 26)``, ``(1, 8|16|32, 19, 26)`` or ``not declared``."""
        if self.shapes is not None:
            if len({len(shape) for shape in self.shapes}) > 1:
                return " or ".join(map(str, self.shapes))
            columns = zip(*self.shapes, strict=True)
            sizes = ("|".join(str(n) for n in dict.fromkeys(column)) for column in columns)
        elif self.axes is not None:
            sizes = (
                str(low) if low == high else f"{low}..{'' if high is None else high}"
                for low, high in self.axes
            )
        else:
            return "not declared"
        return f"({', '.join(sizes)})"


@dataclass(frozen=True)
class FunctionSummary:
    """One function; ``ops``: kind -> count, most frequent first, loop bodies and branches included.

    ``ops_in_loops``: those of them that run once per loop iteration. Constants are not counted.
    """

    name: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...]
    ops: dict[str, int]
    ops_in_loops: dict[str, int]


@dataclass(frozen=True)
class ModelSummary:
    """A package at a glance.

    Args:
        kind: ``mlprogram``, ``neuralnetwork``, or the specification's own word for another type.
        nbytes: of all its files.
        weight_bytes: of the stored weights, by element type; shared ones count once.
        default_function: the one that runs when none is named.
        metadata: author, license, version, description, and everything user-defined.
    """

    path: str
    kind: str
    specification_version: int
    minimum_os: str
    nbytes: int
    weight_bytes: dict[str, int]
    default_function: str
    functions: tuple[FunctionSummary, ...]
    metadata: dict[str, str]
    user_metadata: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def inspect_model(path: Path) -> ModelSummary:
    """Reads a ``.mlpackage`` or ``.mlmodel``.

    Raises:
        AsrbuildError: there is none, or it is damaged.
    """
    spec = read_spec(path)
    kind = spec.WhichOneof("Type")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    described = spec.description
    functions = list(described.functions) or [described]
    default = described.defaultFunctionName or getattr(functions[0], "name", "") or "main"
    metadata = described.metadata
    return ModelSummary(
        path=str(path),
        kind={"mlProgram": "mlprogram", "neuralNetwork": "neuralnetwork"}.get(kind, kind),
        specification_version=spec.specificationVersion,
        minimum_os=_MINIMUM_OS.get(spec.specificationVersion, "unknown"),
        nbytes=sum(file.stat().st_size for file in files),
        weight_bytes=_weight_bytes(spec, kind),
        default_function=default,
        functions=tuple(_function(spec, kind, item, default) for item in functions),
        metadata={
            "author": metadata.author,
            "license": metadata.license,
            "version": metadata.versionString,
            "description": metadata.shortDescription,
        },
        user_metadata=dict(sorted(metadata.userDefined.items())),
    )


def _function(spec: Any, kind: str, described: Any, default: str) -> FunctionSummary:
    name = getattr(described, "name", "") or default
    ops: Counter[str] = Counter()
    in_loops: Counter[str] = Counter()
    if kind == "mlProgram" and name in spec.mlProgram.functions:
        function = spec.mlProgram.functions[name]
        block = function.block_specializations[function.opset]
        _count_operations(block.operations, ops, in_loops, looped=False)
    elif kind.startswith("neuralNetwork"):
        _count_layers(getattr(spec, kind).layers, ops, in_loops, looped=False)
    return FunctionSummary(
        name=name,
        inputs=tuple(map(_feature, described.input)),
        outputs=tuple(map(_feature, described.output)),
        states=tuple(map(_feature, described.state)),
        ops=dict(ops.most_common()),
        ops_in_loops=dict(in_loops.most_common()),
    )


def _count_operations(
    operations: Iterable[Any], ops: Counter[str], in_loops: Counter[str], *, looped: bool
) -> None:
    for operation in operations:
        if operation.type == "const":
            continue
        ops[operation.type] += 1
        in_loops[operation.type] += looped
        inner = looped or operation.type == "while_loop"
        for block in operation.blocks:
            _count_operations(block.operations, ops, in_loops, looped=inner)
    _drop_zeros(in_loops)


def _count_layers(
    layers: Iterable[Any], ops: Counter[str], in_loops: Counter[str], *, looped: bool
) -> None:
    for layer in layers:
        kind = layer.WhichOneof("layer") or "unknown"
        ops[kind] += 1
        in_loops[kind] += looped
        if kind == "loop":
            for network in (layer.loop.conditionNetwork, layer.loop.bodyNetwork):
                _count_layers(network.layers, ops, in_loops, looped=True)
        elif kind == "branch":
            for network in (layer.branch.ifBranch, layer.branch.elseBranch):
                _count_layers(network.layers, ops, in_loops, looped=looped)
    _drop_zeros(in_loops)


def _drop_zeros(counts: Counter[str]) -> None:
    for kind in [kind for kind, count in counts.items() if not count]:
        del counts[kind]


def _feature(described: Any) -> Feature:
    kind = described.type.WhichOneof("Type") or "unknown"
    array = described.type.multiArrayType
    if kind == "stateType":
        array = described.type.stateType.arrayType
    elif kind != "multiArrayType":
        return Feature(described.name, kind, None, None, None, described.type.isOptional)
    default = tuple(array.shape) or None
    flexible = array.WhichOneof("ShapeFlexibility")
    axes = None if default is None else tuple((size, size) for size in default)
    shapes = None
    if flexible == "shapeRange":
        # An upper bound below 0 stands for none.
        axes = tuple(
            (item.lowerBound, item.upperBound if item.upperBound >= 0 else None)
            for item in array.shapeRange.sizeRanges
        )
    elif flexible == "enumeratedShapes":
        axes = None
        shapes = tuple(tuple(item.shape) for item in array.enumeratedShapes.shapes)
    dtype = _ARRAY_TYPES.get(array.dataType, str(array.dataType))
    return Feature(described.name, dtype, default, axes, shapes, described.type.isOptional)


def _weight_bytes(spec: Any, kind: str) -> dict[str, int]:
    found: Counter[str] = Counter()
    if kind == "mlProgram":
        seen: set[tuple[str, int]] = set()
        for function in spec.mlProgram.functions.values():
            for block in function.block_specializations.values():
                _program_weights(block.operations, seen, found)
    elif kind.startswith("neuralNetwork"):
        _network_weights(getattr(spec, kind), found)
    return dict(found.most_common())


def _program_weights(
    operations: Iterable[Any], seen: set[tuple[str, int]], found: Counter[str]
) -> None:
    for operation in operations:
        for place, dtype, nbytes in stored_weights(operation):
            found[dtype] += 0 if place in seen else nbytes
            seen.add(place)
        for block in operation.blocks:
            _program_weights(block.operations, seen, found)


def stored_weights(operation: Any) -> Iterator[tuple[tuple[str, int], str, int]]:
    """The weights in a file that one operation of a program holds, not those inside its blocks.

    Yields:
        where they are (file, offset), their element type, and how many bytes they are.
    """
    names = {number: name.lower() for name, number in coremlproto.mil().DataType.items()}
    for value in _values(operation):
        if value.WhichOneof("value") != "blobFileValue":
            continue
        elements = 1
        for dimension in value.type.tensorType.dimensions:
            elements *= dimension.constant.size
        name = names.get(value.type.tensorType.dataType, "unknown")
        bits = int("".join(filter(str.isdigit, name)) or 8)
        place = (value.blobFileValue.fileName, value.blobFileValue.offset)
        yield place, name, elements * bits // 8


def _values(operation: Any) -> Iterable[Any]:
    """Constants an operation holds itself: a const's value, or arguments written in place."""
    yield from operation.attributes.values()
    for item in operation.inputs.values():
        for argument in item.arguments:
            if argument.WhichOneof("binding") == "value":
                yield argument.value


def _network_weights(message: Any, found: Counter[str]) -> None:
    """Walks every set field of a message for ``WeightParams``."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        items = value if not hasattr(value, "ListFields") else (value,)
        if field.message_type.name == "WeightParams":
            for item in items:
                found["float32"] += 4 * len(item.floatValue)
                found["float16"] += len(item.float16Value)
                found["quantized"] += len(item.rawValue) + len(item.int8RawValue)
        else:
            for item in items:
                _network_weights(item, found)
    _drop_zeros(found)
