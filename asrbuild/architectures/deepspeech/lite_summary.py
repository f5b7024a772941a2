"""Summarises a TensorFlow Lite file without running it: inputs, outputs and metadata."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from asrbuild.architectures.deepspeech.lite import METADATA, lite_errors, whole
from asrbuild.architectures.tensorflow.inspect import (
    UNITS,
    GraphPort,
    GraphSummary,
    Metadata,
    unpack_alphabet,
)
from asrbuild.architectures.tensorflow.lite import (
    LiteGraph,
    dims,
    metadata_bytes,
    strings,
    subgraphs,
)
from asrbuild.base.kinds.places import LITE
from asrbuild.base.kinds.recognition import require

#: Types of stored weights; integers of more bits are sizes, indices and biases.
WEIGHTS = ("float16", "float32", "float64", "int4", "int8", "uint8", "int16")


def inspect_lite(path: Path) -> GraphSummary:
    """Describes any ``.tflite``, without running it.

    Inputs and outputs are those of the first subgraph, operations those of all. A weight is an
    element of a constant with at least one dimension.

    Raises:
        AsrbuildError: the file is damaged.
    """
    require(path, LITE)
    with lite_errors(path):
        return _describe(path)


def _describe(path: Path) -> GraphSummary:
    graphs = subgraphs(path)
    first = graphs[0]
    made_by = {int(t): first.codes[op.opcodeIndex] for op in first.operators for t in op.outputs}

    def ports(tensors: Mapping[str, int]) -> tuple[GraphPort, ...]:
        return tuple(
            GraphPort(name, made_by.get(at, ""), first.kind(at).lower(), dims(first.tensors[at]))
            for name, at in tensors.items()
            if not name.startswith(METADATA)
        )

    weights: Counter[str] = Counter()
    for graph in graphs:
        for at, tensor in enumerate(graph.tensors):
            if graph.raw(at) is not None and (sizes := dims(tensor)):
                weights[graph.kind(at).lower()] += math.prod(n or 1 for n in sizes)
    ops = Counter(graph.codes[op.opcodeIndex] for graph in graphs for op in graph.operators)
    return GraphSummary(
        path=str(path),
        nbytes=path.stat().st_size,
        producer=0,
        inputs=ports(first.inputs),
        outputs=ports(first.outputs),
        metadata=tuple(_stated(first)),
        ops=dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        parameters=sum(n for kind, n in weights.items() if kind in WEIGHTS),
        stored={kind: n for kind, n in sorted(weights.items()) if kind in WEIGHTS},
        variables=(),
        functions={},
        unconvertible=(),
    )


def _stated(graph: LiteGraph) -> Iterator[Metadata]:
    for name, at in graph.outputs.items():
        raw = metadata_bytes(graph, name) if name.startswith(METADATA) else None
        if raw is None:
            continue
        value: int | str | list[str]
        if graph.kind(at) != "STRING":
            value = whole(graph, name, None)
        elif name == "metadata_alphabet":
            value = unpack_alphabet(strings(raw)[0])
        else:
            value = strings(raw)[0].decode("utf-8", "backslashreplace")
        yield Metadata(name, value, UNITS.get(name))
