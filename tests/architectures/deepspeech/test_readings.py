"""Comparisons with TensorFlow's readers find faults of asrbuild's readers before a proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import build_graph, write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.lite import write_lite_graph
from asrbuild.architectures.deepspeech.network import LSTM_SCOPE, AcousticWeights
from asrbuild.architectures.deepspeech.readings import (
    check_checkpoint,
    check_graph_file,
    check_lite,
)
from asrbuild.architectures.deepspeech.reference import start_reference
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import Graph, Node, constant, write_graph
from asrbuild.base.errors import AsrbuildError
from tests.other_files import PB, TFLITE, memory_mapped
from tests.paths import GENUINE

FLAGS = ExportFlags(-1, 96)
LABELS = ["a"] * 28


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return find_checkpoint(GENUINE / "deepspeech-0.9.3-layer-norm" / "checkpoint")


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> AcousticWeights:
    return read_weights(checkpoint)


def test_genuine_sources_are_read_as_tensorflow_reads_them() -> None:
    for folder in GENUINE.glob("*/checkpoint"):
        prefix = find_checkpoint(folder)
        weights = read_weights(prefix)
        check_checkpoint(build_graph(weights, FLAGS, LABELS), prefix)
    for path in GENUINE.glob("*/*.pb"):
        check_graph_file(load_graph(path))


def _reversed_rows(weights: AcousticWeights) -> AcousticWeights:
    return replace(weights, layer_2_weights=weights.layer_2_weights[::-1])


def _one_bit(weights: AcousticWeights) -> AcousticWeights:
    bias = weights.layer_6_bias.copy()
    bias.view(np.uint32)[3] ^= 1
    return replace(weights, layer_6_bias=bias)


def _swapped_gates(weights: AcousticWeights) -> AcousticWeights:
    i, c, f, o = np.split(weights.lstm_kernel, 4, axis=1)
    return replace(weights, lstm_kernel=np.concatenate([i, f, c, o], axis=1))


def _gamma_for_beta(weights: AcousticWeights) -> AcousticWeights:
    swapped = weights.norms["layer_3"][::-1]
    return replace(weights, norms={**weights.norms, "layer_3": swapped})


FAULTS: list[tuple[Callable[[AcousticWeights], AcousticWeights], str]] = [
    (_reversed_rows, "another layer_2/weights than TensorFlow reads"),
    (_one_bit, "another layer_6/bias than"),
    (_swapped_gates, f"another {LSTM_SCOPE}/kernel than"),
    (_gamma_for_beta, "another layer_3/LayerNorm/"),
    (lambda weights: replace(weights, norms={}), "another layer_1/LayerNorm/"),
]


@pytest.mark.parametrize(
    ("fault", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_of_the_checkpoint_reader_is_found(fault, message, weights, checkpoint) -> None:
    graph = build_graph(fault(weights), FLAGS, LABELS)
    with pytest.raises(AsrbuildError) as error:
        check_checkpoint(graph, checkpoint)
    assert message in error.value.message


def test_constants_and_variables_without_a_counterpart_are_reported(
    weights, checkpoint, tmp_path
) -> None:
    import tensorflow as tf

    graph = build_graph(weights, FLAGS, LABELS)
    more = constant(np.ones(5, np.float32))
    extra = Node("layer_1/scale", "Const", (), {"dtype": more.dtype, "value": more})
    with pytest.raises(AsrbuildError, match="a constant layer_1/scale, not a variable"):
        check_checkpoint(Graph((*graph.nodes, extra)), checkpoint)
    named = weights.named() | {"layer_4/weights": np.ones(3, np.float32)}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "c"),
        tensor_names=list(named),
        shape_and_slices=[""] * len(named),
        tensors=[tf.constant(value) for value in named.values()],
    )
    with pytest.raises(AsrbuildError, match="no layer_4/weights, a variable of the checkpoint"):
        check_checkpoint(graph, tmp_path / "c")
    with pytest.raises(AsrbuildError, match="TensorFlow cannot read the checkpoint"):
        check_checkpoint(graph, tmp_path / "none")


@pytest.mark.parametrize("name", ["layer_5/weights", "Minimum/y", "MatMul", "transpose/perm"])
def test_a_fault_of_the_graph_reader_is_found(name) -> None:
    """The graph in memory differs from its file."""
    read = load_graph(GENUINE / "deepspeech-0.9.3" / "x_r1_16.pb")

    def wrong(node: Node) -> Node:
        if node.name != name:
            return node
        if node.op == "Const":
            value = node.value[::-1] if node.value.ndim else node.value + np.float32(1)
            return replace(node, attrs=node.attrs | {"value": constant(value)})
        return replace(node, attrs=node.attrs | {"transpose_b": True})

    check_graph_file(read)
    with pytest.raises(AsrbuildError, match=f"another {name} than TensorFlow parses"):
        check_graph_file(replace(read, nodes=tuple(wrong(node) for node in read.nodes)))


def test_the_reference_process_refuses_differing_weights(weights, checkpoint, tmp_path) -> None:
    """It computes nothing from weights that TensorFlow reads differently."""
    np.savez(tmp_path / "cases.npz", case=np.zeros((3, 19, 26), np.float32))
    path = tmp_path / "output_graph.pb"
    write_frozen_graph(_one_bit(weights), FLAGS, LABELS, path)
    run = start_reference(path, tmp_path / "cases.npz", tmp_path / "out.npz", checkpoint=checkpoint)
    with pytest.raises(AsrbuildError, match="another layer_6/bias than TensorFlow reads") as error:
        run.wait(200)
    assert "source=frozen_graph" in error.value.fix
    assert not (tmp_path / "out.npz").exists()


def test_outputs_that_are_not_probabilities_are_refused(weights, checkpoint, tmp_path) -> None:
    """Otherwise a graph without its softmax would be published as one that has it."""
    np.savez(tmp_path / "cases.npz", case=np.zeros((3, 19, 26), np.float32))
    path = tmp_path / "output_graph.pb"
    graph = build_graph(weights, FLAGS, LABELS)
    nodes = [
        replace(node, op="Identity") if node.name == "logits" else node for node in graph.nodes
    ]
    write_graph(replace(graph, nodes=tuple(nodes)), path)
    run = start_reference(path, tmp_path / "cases.npz", tmp_path / "out.npz")
    with pytest.raises(AsrbuildError, match="logits are not probabilities: a row adds up to"):
        run.wait(200)


def test_a_memory_mapped_graph_is_read_as_tensorflow_parses_it(tmp_path: Path) -> None:
    for lengths in (True, False):
        memory_mapped(PB, tmp_path / "x.pbmm", lengths=lengths)
        read = load_graph(tmp_path / "x.pbmm")
        check_graph_file(read)
        nodes = [
            replace(node, attrs=node.attrs | {"value": constant(node.value[::-1])})
            if node.name == "layer_2/weights"
            else node
            for node in read.nodes
        ]
        with pytest.raises(AsrbuildError, match="has another layer_2/weights"):
            check_graph_file(replace(read, nodes=tuple(nodes)))


def test_a_tflite_is_read_as_tensorflow_lite_reads_it(tmp_path: Path) -> None:
    write_lite_graph(TFLITE, tmp_path / "x.pb")
    read = load_graph(tmp_path / "x.pb")
    check_lite(read, TFLITE)
    for name in ("layer_2/weights", "layer_6/bias", f"{LSTM_SCOPE}/kernel"):
        nodes = [
            replace(node, attrs=node.attrs | {"value": constant(node.value[::-1])})
            if node.name == name
            else node
            for node in read.nodes
        ]
        with pytest.raises(AsrbuildError, match=f"has another {name} than TensorFlow Lite reads"):
            check_lite(replace(read, nodes=tuple(nodes)), TFLITE)
