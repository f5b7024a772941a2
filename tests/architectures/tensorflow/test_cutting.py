"""Graphs cut at tensors give the values of the whole graph."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrbuild.architectures.tensorflow.cutting import Cut, cut_graph, suggested_cuts
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import Shape, write_graph
from asrbuild.architectures.tensorflow.session import GraphSession
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.audio import read_audio
from tests.architectures.tensorflow.keywords import SAMPLES, write_keywords
from tests.paths import DEMO

OUTPUT = "labels_softmax"
AT_MFCC = {"Mfcc": Cut(shape=Shape((1, 49, 40)))}
AT_SAMPLES = {"decoded_sample_data:0": Cut(shape=Shape((SAMPLES, 1)))}
RATE = {"decoded_sample_data:1": 16_000}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keywords(tmp_path_factory.mktemp("keywords") / "keywords.pb")


@pytest.fixture(scope="module")
def whole(graph: Path) -> dict[str, np.ndarray]:
    """Values of the uncut graph for a second of speech."""
    samples = read_audio(DEMO / "second.wav", 16_000)[SAMPLES : 2 * SAMPLES]
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    names = [OUTPUT, "Mfcc", "decoded_sample_data"]
    values = GraphSession(load_graph(graph)).run(
        names, {"wav_data": np.array(file.getvalue(), object)}
    )
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize(
    ("cuts", "pins", "fed"), [(AT_MFCC, {}, "Mfcc"), (AT_SAMPLES, RATE, "decoded_sample_data")]
)
def test_a_cut_graph_gives_the_values_of_the_whole(
    graph: Path, whole: dict[str, np.ndarray], tmp_path: Path, cuts, pins, fed: str
) -> None:
    cut = cut_graph(load_graph(graph), cuts, pins, [OUTPUT])
    assert not {"DecodeWav"} & {node.op for node in cut.nodes}
    path = tmp_path / "cut.pb"
    write_graph(cut, path)
    read = load_graph(path)
    (value,) = GraphSession(read).run([OUTPUT], {fed: whole[fed]})
    np.testing.assert_array_equal(value, whole[OUTPUT])


def test_cuts_are_suggested_after_operations_without_a_form(graph: Path) -> None:
    suggested = suggested_cuts(load_graph(graph), [OUTPUT])
    tensors = {"decoded_sample_data", "decoded_sample_data:1", "AudioSpectrogram", "Mfcc"}
    assert set(suggested) == tensors


def test_a_tensor_that_the_cut_leaves_is_named(graph: Path) -> None:
    with pytest.raises(AsrbuildError, match=r"Mfcc reads decoded_sample_data:1") as caught:
        cut_graph(load_graph(graph), AT_SAMPLES, {}, [OUTPUT])
    assert caught.value.key == "source.config.pin"
    with pytest.raises(AsrbuildError, match="no tensor Mffc"):
        cut_graph(load_graph(graph), {"Mffc": Cut()}, {}, [OUTPUT])
