"""Bisection names the faulty node of a package by a comparison with TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.architecture import Original
from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.landmarks import landmarks_of
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.architectures.deepspeech.reference import run_reference
from asrbuild.cli import main as cli
from asrbuild.coreml import executor
from asrbuild.proof import bisect as bisection
from asrbuild.proof.cases import build_cases
from asrbuild.speech.alphabet import read_alphabet
from asrbuild.speech.mfcc import FeatureSettings
from tests.paths import DEMO, GENUINE
from tests.proof import building, numpy_network as network

WEIGHTS = random_weights(32, seed=3)


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "output_graph.pb"
    labels = list(read_alphabet(DEMO / "alphabet.txt").labels)
    write_frozen_graph(WEIGHTS, ExportFlags(n_steps=-1, n_hidden=32), labels, path)
    return path


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    samples = {name: samples[8_000:24_000] for name, samples in building.recordings().items()}
    return build_cases(FeatureSettings(), samples, ["sample"])["sample"]


@pytest.fixture(scope="module", autouse=True)
def one_run_of_tensorflow(graph, sample):
    """Runs TensorFlow once: every test here uses the same outputs."""
    nodes = [*landmarks_of(_loaded(graph))]
    cell = next(node for node in nodes if "BlockLSTM" in node).partition(":")[0]
    answer = run_reference(graph, {"case": sample}, nodes=[*nodes, f"{cell}:1"])
    patch = pytest.MonkeyPatch()
    patch.setattr(
        "asrbuild.architectures.deepspeech.reference.run_reference", lambda *a, **k: answer
    )
    yield answer["case"]
    patch.undo()


def _loaded(graph: Path):
    from asrbuild.architectures.tensorflow.graph import load_graph

    return load_graph(graph)


def test_the_numpy_network_of_these_tests_equals_tensorflow(one_run_of_tensorflow, sample):
    found = network.run(WEIGHTS, sample)
    for name in ("logits", "new_state_c", "new_state_h"):
        expected = getattr(one_run_of_tensorflow, name)
        np.testing.assert_allclose(found[name], expected, atol=2e-5, err_msg=name)


def test_landmarks_are_the_layers_in_order(graph):
    layers = list(landmarks_of(_loaded(graph)).values())
    dense = ["layer_1"] * 3 + ["layer_2"] * 3 + ["layer_3"] * 3 + ["lstm"] + ["layer_5"] * 3
    assert layers == [*dense, "layer_6", "softmax"]


def test_a_normalised_layer_is_a_landmark(tmp_path, monkeypatch, sample):
    """Its normalisation follows its clip, and is named when its shift differs."""
    monkeypatch.setattr("asrbuild.architectures.deepspeech.reference.run_reference", run_reference)
    folder = GENUINE / "deepspeech-0.9.3-layer-norm"
    weights = read_weights(find_checkpoint(folder / "checkpoint"))
    landmarks = landmarks_of(_loaded(folder / "x_r2_dyn.pb"))
    norms = [node for node in landmarks if node.endswith("LayerNorm/batchnorm/add_1")]
    assert [landmarks[node] for node in norms] == ["layer_1", "layer_2", "layer_3", "layer_5"]
    assert len(landmarks) == 15 + len(norms)
    gamma, beta = weights.norms["layer_2"]
    shifted = replace(weights, norms={**weights.norms, "layer_2": (gamma, beta + 1)})
    manifest = building.build(tmp_path, shifted, "model=static")
    first = bisection.bisect(
        tmp_path, manifest, sample[:16], Original(folder / "x_r2_dyn.pb")
    ).first
    assert (first.layer, first.node) == ("layer_2", "layer_2_1/LayerNorm/batchnorm/add_1")


@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ("", None),
        ("swap_layers", "layer_2"),
        ("permute_gates", "lstm"),
        ("shift_classes", "layer_6"),
        ("uniform", "layer_6"),
    ],
)
@pytest.mark.parametrize(
    "overrides",
    [("model=static",), ("model=dynamic", "coreml=neuralnetwork", "coreml.lstm=loop")],
)
def test_the_wrong_layer_is_named(tmp_path, graph, sample, fault, layer, overrides):
    weights = getattr(network, fault)(WEIGHTS) if fault else WEIGHTS
    manifest = building.build(tmp_path, weights, *overrides)
    found = bisection.bisect(tmp_path, manifest, sample, Original(graph))
    assert (found.first and found.first.layer) == layer
    if layer is None:
        # Every landmark of every call, and both states after each.
        calls = -(-len(sample) // (manifest.streaming.steps_per_chunk or len(sample)))
        assert len(found.comparisons) == calls * 17
    else:
        assert found.last_good is not None
        assert found.first.first_step == 0


def test_a_state_that_is_not_carried_is_found_at_the_lstm_of_the_second_call(
    tmp_path, graph, sample, monkeypatch
):
    trace = bisection._Traced.predict

    def forgetful(self, data, state=None):
        data = {n: np.zeros_like(v) if n.startswith("previous") else v for n, v in data.items()}
        return trace(self, data, state)

    monkeypatch.setattr(bisection._Traced, "predict", forgetful)
    manifest = building.build(tmp_path, WEIGHTS, "model=static")
    first = bisection.bisect(tmp_path, manifest, sample, Original(graph)).first
    assert first is not None
    assert (first.layer, first.first_step) == ("lstm", 16)


def test_a_stateful_package_is_bisected_too(tmp_path, graph, sample):
    manifest = building.build(tmp_path, WEIGHTS, "model=static", "coreml.state=stateful")
    assert bisection.bisect(tmp_path, manifest, sample, Original(graph)).first is None


def test_the_command_names_the_node(tmp_path, graph, capsys, monkeypatch):
    """The artifact has other weights than the graph; the command runs TensorFlow too."""
    monkeypatch.setattr("asrbuild.architectures.deepspeech.reference.run_reference", run_reference)
    wrong = network.permute_gates(WEIGHTS)
    path = building.publish(tmp_path / "artifacts", tmp_path / "work", wrong, "model=static")
    assert cli.dispatch(["verify", str(path), "--bisect", "--graph", str(graph)]) == 1
    said = capsys.readouterr().out
    assert "Proven" in said
    assert "first divergence: lstm (node" in said
    assert "before it, this agrees: layer_3 (node Minimum_2)" in said


def test_a_bound_that_fails_alone_is_bisected(tmp_path, graph, capsys, monkeypatch):
    """Artifacts do not store the case of a range's bound, so it is made from the sample again."""
    monkeypatch.setattr("asrbuild.architectures.deepspeech.reference.run_reference", run_reference)
    path = building.publish(
        tmp_path / "artifacts",
        tmp_path / "work",
        WEIGHTS,
        "model=dynamic",
        "coreml.range_upper=150",
    )
    predict = executor.Model.predict

    def late(self, data, state=None):
        found = predict(self, data, state)
        return found if len(found["logits"]) <= 128 else found | {"logits": found["logits"][::-1]}

    monkeypatch.setattr(executor.Model, "predict", late)
    calls = []
    bisect = bisection.bisect

    def watched(artifact, manifest, windows, *original):
        calls.append(len(windows))
        return bisect(artifact, manifest, windows, *original)

    monkeypatch.setattr(bisection, "bisect", watched)
    assert cli.dispatch(["verify", str(path), "--bisect", "--graph", str(graph)]) == 1
    said = capsys.readouterr().out
    assert "steps_150@self: logits" in said
    assert calls == [150]
    # The fault is in the call, not in a value that the package computes.
    assert "layer by layer: all 17 comparisons agree" in said
