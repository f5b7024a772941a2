"""Inspects a package: inputs, outputs, operations and weights, from its protobuf messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asrbuild.coreml.availability import MINIMUM_OS, layer_version, operation_version, reasons
from asrbuild.coreml.executor.package import read_spec
from asrbuild.coreml.features import FeatureSummary, read_feature
from asrbuild.coreml.stored import compression, constant_arguments, weight_bytes


@dataclass(frozen=True)
class FunctionSummary:
    """One function; ``ops``: kind -> count, most frequent first, with loop bodies and branches.

    ``ops_in_loops``: those that run once per loop iteration. Constants do not count.
    """

    name: str
    inputs: tuple[FeatureSummary, ...]
    outputs: tuple[FeatureSummary, ...]
    states: tuple[FeatureSummary, ...]
    ops: dict[str, int]
    ops_in_loops: dict[str, int]


@dataclass(frozen=True)
class ModelSummary:
    """The summary of a package.

    Args:
        kind: ``mlprogram``, ``neuralnetwork``, or the specification's own name for another type.
        nbytes: bytes of all its files.
        minimum_os_reasons: the operations, layers and types that came with that system; empty if
            only the deployment target of the conversion decided.
        weight_bytes: element type -> bytes of the stored weights; shared ones count once.
        compression: compression (``palette of 4 bits``) -> number of weights.
        labels: the classes of a classifier, in order.
        default_function: the function that runs if none is named.
        parts: the models of a pipeline, in order, each with its name in the pipeline.
        metadata: author, license, version, description, and user-defined metadata.
    """

    path: str
    kind: str
    specification_version: int
    minimum_os: str
    minimum_os_reasons: tuple[str, ...]
    nbytes: int
    weight_bytes: dict[str, int]
    compression: dict[str, int]
    labels: tuple[str, ...]
    default_function: str
    functions: tuple[FunctionSummary, ...]
    metadata: dict[str, str]
    user_metadata: dict[str, str]
    parts: tuple[ModelSummary, ...]

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values for JSON."""
        return asdict(self)


def inspect_model(path: Path) -> ModelSummary:
    """Reads a ``.mlpackage`` or ``.mlmodel``.

    Raises:
        AsrbuildError: the package does not exist or is damaged.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return _summary(read_spec(path), str(path), sum(file.stat().st_size for file in files))


def _summary(spec: Any, path: str, nbytes: int) -> ModelSummary:
    kind = spec.WhichOneof("Type") or "unknown"
    described = spec.description
    functions = list(described.functions) or [described]
    default = described.defaultFunctionName or getattr(functions[0], "name", "") or "main"
    metadata = described.metadata
    summaries = tuple(_function(spec, kind, item, default) for item in functions)
    parts = tuple(_summary(part, name, part.ByteSize()) for name, part in named_parts(spec))
    return ModelSummary(
        path=path,
        kind={"mlProgram": "mlprogram", "neuralNetwork": "neuralnetwork"}.get(kind, kind),
        specification_version=spec.specificationVersion,
        minimum_os=MINIMUM_OS.get(spec.specificationVersion, "unknown"),
        minimum_os_reasons=reasons(spec.specificationVersion, _needs(spec, kind, summaries, parts)),
        nbytes=nbytes,
        weight_bytes=weight_bytes(spec, kind),
        compression=compression(spec, kind),
        labels=class_labels(spec),
        default_function=default,
        functions=summaries,
        metadata={
            "author": metadata.author,
            "license": metadata.license,
            "version": metadata.versionString,
            "description": metadata.shortDescription,
        },
        user_metadata=dict(sorted(metadata.userDefined.items())),
        parts=parts,
    )


def named_parts(spec: Any) -> list[tuple[str, Any]]:
    """The models of a pipeline in order, with their names; empty for any other model."""
    kind = spec.WhichOneof("Type") or ""
    if not kind.startswith("pipeline"):
        return []
    pipeline = getattr(spec, kind)
    pipeline = pipeline if kind == "pipeline" else pipeline.pipeline
    names = [*pipeline.names, *("" for _ in pipeline.models)]
    return [
        (names[number] or f"part {number + 1}", model)
        for number, model in enumerate(pipeline.models)
    ]


def class_labels(spec: Any) -> tuple[str, ...]:
    """The classes of a classifier in order; for a pipeline, those of its last classifier."""
    kind = spec.WhichOneof("Type") or "unknown"
    if kind == "mlProgram":
        return _program_labels(spec)
    model = getattr(spec, kind, None)
    if model is not None and "ClassLabels" in model.DESCRIPTOR.oneofs_by_name:
        which = model.WhichOneof("ClassLabels")
        return tuple(map(str, getattr(model, which).vector)) if which else ()
    found = [labels for _, part in named_parts(spec) if (labels := class_labels(part))]
    return found[-1] if found else ()


def _program_labels(spec: Any) -> tuple[str, ...]:
    """The ``classes`` of a program's ``classify`` operation: a list of scalars, or one tensor."""
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                if operation.type == "classify":
                    found = constant_arguments(operation, "classes", block.operations)
                    return tuple(label for value in found for label in _scalars(value))
    return ()


def _scalars(value: Any) -> Iterator[str]:
    immediate = value.immediateValue
    if immediate.WhichOneof("value") == "list":
        for item in immediate.list.values:
            yield from _scalars(item)
    elif (which := immediate.tensor.WhichOneof("value")) is not None:
        yield from map(str, getattr(immediate.tensor, which).values)


def _needs(
    spec: Any, kind: str, functions: Iterable[FunctionSummary], parts: Iterable[ModelSummary]
) -> Iterator[tuple[int, str]]:
    """Yields (spec version, part of the package that requires it) for every part."""
    for function in functions:
        for op in function.ops:
            if kind == "mlProgram":
                yield operation_version(op), op
            elif kind.startswith("neuralNetwork"):
                yield layer_version(op), op
        for feature in (*function.inputs, *function.outputs):
            if feature.dtype == "float16":
                yield 7, f"float16 values of {feature.name}"
        for feature in function.states:
            yield 9, f"state {feature.name}"
    if len(spec.description.functions) > 1:
        yield 9, "several functions"
    for dtype in weight_bytes(spec, kind):
        if dtype in ("int4", "uint1", "uint2", "uint3", "uint4", "uint6"):
            yield 9, f"{dtype} weights"
    for part in parts:
        yield part.specification_version, f"part {part.path}"


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
        inputs=tuple(map(read_feature, described.input)),
        outputs=tuple(map(read_feature, described.output)),
        states=tuple(map(read_feature, described.state)),
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
