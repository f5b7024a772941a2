"""Landmarks for bisecting: values of a DeepSpeech graph that its package also has."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.architectures.architecture import Landmark, Original
from asrbuild.architectures.deepspeech import reference
from asrbuild.architectures.deepspeech.signature import LOGITS, STATES
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: Kinds of nodes whose values a package also has, and the number of their output; so do the sums of
#: normalisations.
_LANDMARKS = {"BiasAdd": 0, "Relu": 0, "Minimum": 0, "BlockLSTM": 6, "Softmax": 0}


def landmarks_of(graph: Any) -> dict[str, str]:
    """Tensor -> layer of each landmark, in the graph's order."""
    from asrbuild.architectures.tensorflow.proto import input_name, upstream

    needed = upstream(graph, [LOGITS])
    found: dict[str, str] = {}
    layer = "input"
    for node in graph.nodes:
        if node.name not in needed or not _is_landmark(graph, node):
            continue
        if node.op == "BiasAdd":
            layer = input_name(node.inputs[1]).partition("/")[0]
        output = _LANDMARKS.get(node.op, 0)
        named = {"BlockLSTM": "lstm", "Softmax": "softmax"}.get(node.op, layer)
        found[f"{node.name}:{output}" if output else node.name] = named
    return found


def _is_landmark(graph: Any, node: Any) -> bool:
    """Whether a node is a landmark; the last node of ``tf.nn.batch_normalization`` is one too."""
    from asrbuild.architectures.tensorflow.proto import input_name

    if node.op not in ("Add", "AddV2"):
        return node.op in _LANDMARKS
    read = (graph.by_name.get(input_name(reference)) for reference in node.inputs)
    return [source.op for source in read if source is not None] == ["Mul", "Sub"]


def run_landmarks(original: Original, features: Array) -> tuple[list[Landmark], dict[str, Array]]:
    """The landmarks of TensorFlow's run, and the states after each step, (T, H).

    Raises:
        AsrbuildError: the graph has no landmarks, or not one LSTM.
    """
    graph = load_graph(original.file)
    layers = landmarks_of(graph)
    cells = [n.name for n in graph.nodes if n.op == "BlockLSTM"]
    if not layers or len(cells) != 1:
        raise AsrbuildError("not a DeepSpeech inference graph", file=original.file)
    tensors = dict(
        zip((pair.output for pair in STATES), reference.state_nodes(original.file), strict=True)
    )
    nodes = list(dict.fromkeys([*layers, *tensors.values()]))
    run = reference.run_reference(
        original.file, {"case": features}, nodes=nodes, checkpoint=original.made_of
    )
    values = run["case"].nodes
    rows = {
        node: np.concatenate([v.reshape(len(v), -1) for v in values[node]])[: len(features)]
        for node in nodes
    }
    landmarks = [Landmark(node, layer, rows[node]) for node, layer in layers.items()]
    return landmarks, {name: rows[node] for name, node in tensors.items()}
