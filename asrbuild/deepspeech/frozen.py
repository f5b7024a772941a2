"""Weights out of a frozen graph that DeepSpeech.py exported, or this project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asrbuild.errors import AsrbuildError
from asrbuild.graph.proto import Graph, load_graph
from asrbuild.network import LSTM_SCOPE, VARIABLES, AcousticWeights, weights_from_named
from asrbuild.protobuf import WireError


def read_graph_weights(path: Path | str) -> AcousticWeights:
    """Reads the acoustic model's weights, as views of the mapped file.

    Raises:
        AsrbuildError: the file is no whole graph, or not a DeepSpeech acoustic model.
    """
    return graph_weights(load_graph(path))


def graph_weights(graph: Graph) -> AcousticWeights:
    """The weights of a loaded graph."""
    arrays: dict[str, np.ndarray] = {}
    for name in VARIABLES.values():
        node = graph.by_name.get(name)
        if node is not None and node.op == "Const":
            try:
                arrays[name] = node.value
            except (WireError, KeyError) as error:
                raise AsrbuildError(f"constant {name}: {error}", file=graph.path) from error
    if not arrays:
        names = [node.name for node in graph.nodes if node.op == "Const" and _large(node.attrs)]
        raise AsrbuildError(
            "not a DeepSpeech graph: none of its weights (layer_1/weights and so on) is in it",
            file=graph.path,
            fix=f"its constants are: {', '.join(names[:12]) or 'none'}; "
            "for another network use coreml.frontend=tensorflow",
        )
    weights = weights_from_named(arrays, file=None if graph.path is None else str(graph.path))
    _check_cell(graph)
    return weights


def _large(attrs: dict) -> bool:
    value = attrs.get("value")
    return value is not None and getattr(value, "nbytes", 0) >= 1024


def _check_cell(graph: Graph) -> None:
    """Weights mean the same only in the cell that DeepSpeech 0.7 to 0.9 exports."""
    node = graph.by_name.get(f"{LSTM_SCOPE}/BlockLSTM")
    if node is None:
        cells = sorted({f"{node.op} {node.name}" for node in graph.nodes if "LSTM" in node.op})
        raise AsrbuildError(
            f"the graph has no {LSTM_SCOPE}/BlockLSTM; its LSTMs: {', '.join(cells) or 'none'}",
            file=graph.path,
            fix="use coreml.frontend=tensorflow for this graph",
        )
    expected = {"forget_bias": (0.0,), "cell_clip": (-1.0, 0.0), "use_peephole": (False,)}
    for key, allowed in expected.items():
        if node.attrs.get(key, allowed[0]) not in allowed:
            raise AsrbuildError(
                f"the LSTM has {key} {node.attrs[key]}, expected {allowed[0]}",
                file=graph.path,
                fix="use coreml.frontend=tensorflow for this graph",
            )


def relu_clip(graph: Graph) -> float:
    """The limit of the clipped ReLU, the same in all four layers.

    Raises:
        AsrbuildError: the graph has none, or several that differ.
    """
    limits = {
        float(graph.by_name[node.inputs[1]].value)
        for node in graph.nodes
        if node.op == "Minimum" and graph.by_name[node.inputs[1]].op == "Const"
    }
    if len(limits) != 1:
        raise AsrbuildError(
            f"expected one limit for the clipped ReLU, found {sorted(limits) or 'none'}",
            file=graph.path,
            fix="use coreml.frontend=tensorflow for this graph",
        )
    return limits.pop()
