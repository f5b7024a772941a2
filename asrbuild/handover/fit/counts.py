"""Exact figures of one call of a package: multiply-adds, weights read, live tensors, padding.

They follow from shapes. If the package declares all of them (an ML program of one fixed shape
without a loop) nothing runs; else the executor runs it once, on zeros of the requested size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.features import FeatureSummary
from asrbuild.handover.fit.operations import (
    UNDECLARED,
    Operation,
    OperationValue,
    PackagePart,
    stored_bytes,
    walk,
)
from asrbuild.handover.fit.products import Shapes, Sizes, hidden_weights, multiply_adds

#: Bytes to which the Neural Engine pads the last axis of an input or output, and of a value there.
#: Source: neural_engine_rules.md of apple/coreai-models.
PADDED_TO, HALF = 64, 2
_ITEM_BYTES = {"bool": 1} | {
    f"{kind}{bits}": bits // 8
    for kind in ("int", "uint", "float")
    for bits in (8, 16, 32, 64)
    if f"{kind}{bits}" != "float8"
}


@dataclass(frozen=True)
class OpCounts:
    """Figures of one operation in one call.

    Args:
        calls: number of its runs, more than one in a loop.
        multiply_adds: None if its kind is not counted.
        weight_bytes: stored bytes of its weights.
        weight_reads: bytes of weights read in a call if each run reads them, and a recurrent op its
            hidden weights in each step; a cache reduces them.
    """

    path: str
    kind: str
    calls: int
    multiply_adds: int | None
    weight_bytes: int
    weight_reads: int


@dataclass(frozen=True)
class PaddedAxis:
    """The last axis of an input or output, and its padded size on the Neural Engine."""

    name: str
    size: int
    padded: int


@dataclass(frozen=True)
class CallFigures:
    """The figures of one call of a function.

    Args:
        sizes: input -> its shape in this call.
        ran: whether the executor ran the package to find the shapes.
        live_bytes: the greatest number of bytes of simultaneous tensors, without constants; inputs
            exist during the whole call, an output from its computation on.
        live_at: the operation that runs then.
        largest: (name, bytes) of the largest tensors, largest first.
        weight_bytes: stored bytes of all weights; shared weights count once. A call reads at least
            these.
        io_bytes: bytes of all inputs and outputs that are arrays.
        state_bytes: bytes read and written in Core ML states.
    """

    function: str
    sizes: Mapping[str, Sizes]
    ran: bool
    operations: tuple[OpCounts, ...]
    weight_bytes: int
    live_bytes: int
    live_at: str
    largest: tuple[tuple[str, int], ...]
    io_bytes: int
    state_bytes: int
    padding: tuple[PaddedAxis, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all counted operations."""
        return sum(each.multiply_adds or 0 for each in self.operations)

    @property
    def weight_reads(self) -> int:
        """Bytes of weights read in a call without any cache between runs."""
        return sum(each.weight_reads for each in self.operations)


def call_sizes(function: PackagePart, steps: int | None = None) -> dict[str, Sizes]:
    """The shape of each input in a call.

    Args:
        steps: the size of every flexible axis; None: the package's default shape.
    """
    return {
        feature.name: _sized(feature, steps)
        for feature in function.inputs
        if feature.default is not None and not feature.dtype.startswith("image")
    }


def _sized(feature: FeatureSummary, steps: int | None) -> Sizes:
    default = feature.default or ()
    if steps is None:
        return default
    if feature.shapes is not None:
        flexible = [len(set(column)) > 1 for column in zip(*feature.shapes, strict=False)]
    else:
        flexible = [low != high for low, high in feature.axes or ()]
    pairs = zip(default, flexible, strict=False)
    return tuple(steps if free else size for size, free in pairs)


def count(package: Path, function: PackagePart, steps: int | None = None) -> CallFigures:
    """The figures of one call of a function.

    Raises:
        AsrbuildError: shapes are not declared, and the executor cannot run the package, or not with
        this size.
    """
    if "/" in function.name:
        raise AsrbuildError("the parts of a pipeline are not counted")
    try:
        return _count(package, function, steps)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise AsrbuildError(
            f"the shapes of {function.name} are inconsistent: {error or type(error).__name__}",
            file=package,
            fix="the package is damaged: build it again, or copy it again from a good copy",
        ) from error


def _count(package: Path, function: PackagePart, steps: int | None) -> CallFigures:
    sizes = call_sizes(function, steps)
    known = _declared(function)
    ran = known is None or any(
        sizes.get(feature.name, feature.default) != feature.default for feature in function.inputs
    )
    runs = _executed(package, function, sizes) if ran or known is None else known
    results = {path: shapes[0].results for path, shapes in runs.items() if shapes}
    live, at, largest = _most_live(function, sizes, results)
    return CallFigures(
        function.name,
        sizes,
        ran,
        tuple(_op_counts(op, runs.get(op.path, [])) for op in walk(function.operations)),
        stored_bytes([function]),
        live,
        at,
        largest,
        _io_bytes(function, sizes, results),
        2 * sum(math.prod(s.default or ()) * _item_bytes(s.dtype) for s in function.states),
        tuple(_padding(function, sizes, results)),
    )


def _op_counts(operation: Operation, runs: Sequence[Shapes]) -> OpCounts:
    each = [multiply_adds(operation, shapes) for shapes in runs]
    stored = operation.stored_bytes
    reads = 0
    for shapes in runs:
        steps, hidden = hidden_weights(operation, shapes)
        reads += stored + (steps - 1) * _hidden_bytes(operation, hidden)
    return OpCounts(
        operation.path,
        operation.kind,
        len(runs),
        None if None in each else sum(n or 0 for n in each),
        stored,
        reads,
    )


def _hidden_bytes(operation: Operation, elements: int) -> int:
    """Stored bytes of a recurrent op's hidden weights."""
    if operation.message is None:
        names = ("weight_hh", "weight_hh_back")
        values = (v for name in names for v in operation.operands.get(name, ()))
        return sum(value.stored_bytes for value in values)
    # A layer's weights are of one type; its biases are single values a row.
    half = operation.stored_bytes < 3 * elements
    return elements * (HALF if half else 2 * HALF)


def _declared(function: PackagePart) -> dict[str, list[Shapes]] | None:
    """The shapes of every operation; None if some are undeclared, or if there is a loop."""
    found = {}
    for operation in walk(function.operations):
        if operation.inner or operation.message is not None:
            return None
        if any(_whole(value) is None for value in operation.values):
            return None
        operands = {
            name: [_whole(value) or () for value in values]
            for name, values in operation.operands.items()
        }
        results = tuple(_whole(value) or () for value in operation.results)
        found[operation.path] = [Shapes(operands, results)]
    return found or None


def _whole(value: OperationValue) -> Sizes | None:
    if value.shape is None:
        # A classifier's label and dictionary have no shape.
        return () if value.constant or value.dtype == UNDECLARED else None
    if any(size is None for size in value.shape):
        return None
    return tuple(size or 0 for size in value.shape)


def _executed(
    package: Path, function: PackagePart, sizes: Mapping[str, Sizes]
) -> dict[str, list[Shapes]]:
    """The shapes of every run of every operation, from one call on zeros."""
    import numpy as np

    from asrbuild.coreml.executor import load
    from asrbuild.coreml.executor.recording import Seen, Site, watching

    runs: dict[str, list[Shapes]] = {}

    def watch(site: Site) -> Seen:
        own = runs.setdefault(site.path, [])

        def seen(operands: Sequence[Any], result: Any) -> None:
            results = result if isinstance(result, list) else [result]
            given: dict[str, list[Sizes]] = {}
            for name, value in zip(site.operands, operands, strict=True):
                values = value if isinstance(value, list) else [value]
                given.setdefault(name, []).extend(map(np.shape, values))
            own.append(Shapes(given, tuple(map(np.shape, results))))

        return seen

    with watching(watch):
        model = load(package, function.name if function.format == "mlProgram" else None)
    data = {
        name: np.zeros(sizes[name], feature.dtype)
        for name, feature in model.inputs.items()
        if name in sizes
    }
    if model.states:
        model.predict(data, model.make_state())
    else:
        model.predict(data)
    return runs


def _most_live(
    function: PackagePart, sizes: Mapping[str, Sizes], results: Mapping[str, tuple[Sizes, ...]]
) -> tuple[int, str, tuple[tuple[str, int], ...]]:
    """The greatest number of bytes of simultaneous tensors, its place, and the largest tensors."""
    held = sum(
        math.prod(sizes[feature.name]) * _item_bytes(feature.dtype)
        for feature in function.inputs
        if feature.name in sizes
    )
    made = {
        value.name: math.prod(shape) * _item_bytes(value.dtype)
        for operation in walk(function.operations)
        for value, shape in zip(operation.results, results.get(operation.path, ()), strict=False)
    }
    live, at = _peak(function.operations, frozenset(function.results), made)
    largest = sorted(made.items(), key=lambda item: (-item[1], item[0]))
    return held + live, at, tuple(largest[:_LARGEST])


#: Number of largest tensors in the list.
_LARGEST = 5


def _peak(
    operations: Sequence[Operation], kept: frozenset[str], made: Mapping[str, int]
) -> tuple[int, str]:
    """The greatest number of bytes of simultaneous results of these operations, and its place.

    A value exists from its operation to the last one that reads it, including those in blocks.
    """
    last: dict[str, int] = {}
    for number, operation in enumerate(operations):
        for name in _names(operation):
            last[name] = number
    alive: dict[str, int] = {}
    most, at = 0, ""
    for number, operation in enumerate(operations):
        alive |= {value.name: made.get(value.name, 0) for value in operation.results}
        inside = max(
            (_peak(block.operations, frozenset(block.results), made) for block in operation.inner),
            default=(0, operation.path),
        )
        now = sum(alive.values()) + inside[0]
        if now > most:
            most, at = now, inside[1] or operation.path
        for name in [name for name in alive if last.get(name, number) <= number]:
            if name not in kept:
                del alive[name]
    return most, at


def _names(operation: Operation) -> Iterable[str]:
    """Every value that an operation or its blocks read."""
    yield from (value.name for values in operation.operands.values() for value in values)
    for block in operation.inner:
        yield from block.results
        for inner in block.operations:
            yield from _names(inner)


def _item_bytes(dtype: str) -> int:
    """Bytes of one value; an undeclared type is the float32 of a neural network."""
    return _ITEM_BYTES.get(dtype, 4)


def _io_bytes(
    function: PackagePart, sizes: Mapping[str, Sizes], results: Mapping[str, tuple[Sizes, ...]]
) -> int:
    shapes = {**_output_shapes(function, results), **sizes}
    return sum(
        math.prod(shapes[feature.name]) * _item_bytes(feature.dtype)
        for feature in (*function.inputs, *function.outputs)
        if feature.name in shapes
    )


def _output_shapes(
    function: PackagePart, results: Mapping[str, tuple[Sizes, ...]]
) -> dict[str, Sizes]:
    """Output -> shape, from the values of that name, or for a program the results of its block."""
    made = {
        value.name: shape
        for operation in walk(function.operations)
        for value, shape in zip(operation.results, results.get(operation.path, ()), strict=False)
    }
    return {
        feature.name: made[feature.name] for feature in function.outputs if feature.name in made
    }


def _padding(
    function: PackagePart, sizes: Mapping[str, Sizes], results: Mapping[str, tuple[Sizes, ...]]
) -> Iterable[PaddedAxis]:
    shapes = {**sizes, **_output_shapes(function, results)}
    for feature in (*function.inputs, *function.outputs):
        name, shape = feature.name, shapes.get(feature.name)
        if shape and feature.dtype.startswith("float"):
            values = PADDED_TO // HALF
            yield PaddedAxis(name, shape[-1], -(-shape[-1] // values) * values)
