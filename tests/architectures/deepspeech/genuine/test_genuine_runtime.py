"""The genuine deepspeech 0.9.3 runs our exported graph and gives our transcripts.

The client returns an empty text, and no error, for a graph that its TensorFlow cannot run, so every
test also requires a text.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass, replace
from pathlib import Path

import jiwer
import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import build_graph, write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights
from asrbuild.architectures.deepspeech.reference import run_reference
from asrbuild.architectures.tensorflow.proto import Graph, Node, constant, write_graph
from asrbuild.speech.audio import read_audio
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.paths import DEMO

ALPHABET = DEMO / "alphabet.txt"
LABELS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
BEAM = 500


@dataclass(frozen=True)
class Said:
    """The client's answer, and ours: its decoder on our features and TensorFlow's probabilities."""

    client: dict
    ours: list[str]


@pytest.fixture(scope="module")
def demo() -> AcousticWeights:
    return read_weights(find_checkpoint(DEMO / "checkpoint"))


@pytest.fixture(scope="module")
def compare(genuine, tmp_path_factory):
    def say(
        weights: AcousticWeights,
        wavs: list[Path],
        *,
        n_steps: int = 16,
        pieces: int = 1234,
        **flags,
    ) -> Said:
        folder = tmp_path_factory.mktemp("genuine")
        graph = folder / "output_graph.pb"
        flags = {"beam_width": BEAM} | flags
        settings = ExportFlags(n_steps, weights.n_hidden, **flags)
        write_frozen_graph(weights, settings, LABELS, graph)
        request = {"model": str(graph), "wavs": [str(wav) for wav in wavs], "pieces": pieces}
        cases = {str(i): client_features(read_audio(wav, 16_000)) for i, wav in enumerate(wavs)}
        outputs = run_reference(graph, cases)
        probabilities = folder / "probabilities.npz"
        np.savez(probabilities, **{name: output.logits for name, output in outputs.items()})
        decoded = genuine(
            {
                "probabilities": str(probabilities),
                "alphabet": str(ALPHABET),
                "beam_width": settings.beam_width,
            }
        )
        return Said(genuine(request), [decoded["texts"][name] for name in cases])

    return say


def client_features(samples: np.ndarray) -> np.ndarray:
    """Our features of the client's input: it fills up the last window with zeros.

    The samples after the last whole window make one more window.
    """
    settings = FeatureSettings()
    whole = settings.steps(len(samples))
    rest = len(samples) - whole * settings.stride
    return features(np.pad(samples, (0, settings.window - rest)), settings)


def agree(said: Said) -> None:
    assert all(said.client["texts"]), "an empty text: the client could not run the graph"
    assert said.client["texts"] == said.ours
    assert said.client["streamed"] in (said.ours, [])


def test_the_client_transcribes_the_demos_sample(compare, demo):
    said = compare(demo, [DEMO / "sample.wav"], pieces=0, export_language="en-US")
    agree(said)
    assert said.client["version"] == "0.9.3"
    assert said.client["sample_rate"] == 16_000
    assert said.client["beam_width"] == BEAM
    # The beams have no language model here: a letter may be wrong, a word may not be missing.
    assert jiwer.wer((DEMO / "sample.txt").read_text().strip(), said.ours[0]) == 0.0


def test_another_chunk_and_beam_give_the_same_transcript(compare, demo):
    wavs = [DEMO / "second.wav", DEMO / "sample.wav"]
    said = compare(demo, wavs, n_steps=32, beam_width=50)
    agree(said)
    assert said.client["beam_width"] == 50


def test_an_untrained_network_gives_the_same_letters_for_noise(compare, tmp_path):
    """A difference anywhere in the network would change some of these near-random letters."""
    wav = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 3000, 16_000 * 2).astype(np.int16)
    with wave.open(str(wav), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(noise.tobytes())
    weights = random_weights(64, seed=1)
    sharp = replace(weights, layer_6_weights=weights.layer_6_weights * np.float32(8))
    said = compare(sharp, [wav])
    agree(said)
    assert len(said.ours[0]) > 15


def refused_or_text(genuine, tmp_path, nodes) -> dict:
    path = tmp_path / "changed.pb"
    write_graph(Graph(tuple(nodes), producer=134), path)
    return genuine({"model": str(path), "wavs": [str(DEMO / "second.wav")], "pieces": 4000})


def test_these_checks_can_fail(genuine, demo, tmp_path):
    """An older graph version is refused; a newer attribute gives an empty text."""
    nodes = build_graph(demo, ExportFlags(16, demo.n_hidden, beam_width=10), LABELS).nodes
    old = {"value": constant(np.array([5], np.int32))}
    older = [
        Node(node.name, node.op, (), node.attrs | old) if node.name == "metadata_version" else node
        for node in nodes
    ]
    assert "refused" in refused_or_text(genuine, tmp_path, older)
    newer = [
        Node(node.name, node.op, node.inputs, node.attrs | {"bad_indices_policy": b""})
        if node.op == "GatherNd"
        else node
        for node in nodes
    ]
    answer = refused_or_text(genuine, tmp_path, newer)
    assert "refused" in answer or answer["texts"] == [""]
    assert refused_or_text(genuine, tmp_path, nodes)["texts"] != [""]


def test_the_client_cannot_run_dynamic_graphs(genuine, demo, tmp_path):
    """The client lacks the kernels for a free time axis, even for DeepSpeech's own graph."""
    nodes = build_graph(demo, ExportFlags(-1, demo.n_hidden), LABELS).nodes
    assert "refused" in refused_or_text(genuine, tmp_path, nodes)
