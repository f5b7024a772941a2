"""Summarises an ONNX file: inputs, outputs, weights, and operations without a Core ML form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.folding import fold
from asrbuild.architectures.onnx.graph import Graph, Tensor
from asrbuild.architectures.onnx.lowering.walk import missing
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.architectures.onnx.roles import assign
from asrbuild.architectures.onnx.section import OnnxConfig


@dataclass(frozen=True)
class OnnxSummary:
    """The summary of an ONNX file.

    Args:
        roles: input -> its likely role.
        ops: operation -> number of nodes, after folding.
        stored: element type of weights -> number of elements.
        unconvertible: a message for each op without a Core ML form.
    """

    path: str
    nbytes: int
    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    roles: Mapping[str, str]
    states: Mapping[str, str]
    ops: Mapping[str, int]
    stored: Mapping[str, int]
    unconvertible: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The summary as values for JSON."""
        return asdict(self)


def inspect_onnx(path: Path) -> OnnxSummary:
    """Summarises a file, after folding.

    Raises:
        AsrbuildError: the file is not a complete ONNX model.
    """
    whole = read_graph(path)
    graph = fold(whole, {})
    config, _ = assign(graph, OnnxConfig())
    return OnnxSummary(
        path=str(path),
        nbytes=path.stat().st_size,
        opset=max((node.opset for node in whole.nodes), default=0),
        inputs=whole.inputs,
        outputs=whole.outputs,
        roles={name: one["meaning"] for name, one in config.inputs.items()},
        states=config.states,
        ops=_ops(graph),
        stored=_stored(whole),
        unconvertible=tuple(error.message for error in missing(graph)),
    )


def _stored(graph: Graph) -> dict[str, int]:
    """Element type -> number of elements of all weights, including those of branches."""
    counts: Counter[str] = Counter()
    arrays = [*graph.constants.values()]
    for node in graph.nodes:
        for value in node.attributes.values():
            if isinstance(value, Graph):
                counts.update(_stored(value))
            elif isinstance(value, np.ndarray):
                arrays.append(value)
    for array in arrays:
        counts[array.dtype.name] += array.size
    return dict(counts)


def _ops(graph: Graph) -> dict[str, int]:
    counts = Counter(node.op for node in graph.nodes)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
