"""Graphs and SavedModels of TensorFlow, from the file to a published artifact that transcribes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.session import GraphSession
from asrbuild.architectures.tensorflow_graph import saved_model
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import open_artifact
from asrbuild.coreml.executor import load
from asrbuild.speech.audio import read_audio, wav_bytes
from tests.acceptance.conftest import run_asrbuild
from tests.acceptance.shared import SECOND, keyword_artifact
from tests.architectures.recipes import MODELS, write_recipe
from tests.architectures.tensorflow.keywords import SAMPLES, WORDS
from tests.command import run_main
from tests.paths import DEMO


@pytest.mark.parametrize(("name", "kind"), [("at-samples", "none"), ("at-mfcc", "mfcc_tf")])
def test_a_keyword_graph_works_with_either_cut(keywords: Path, name: str, kind: str) -> None:
    artifact = keyword_artifact(keywords, name)
    manifest: Any = read_manifest(artifact)
    assert manifest.features.kind == kind
    # One second of speech: the uncut graph reads the bytes of its WAV file.
    samples = np.round(read_audio(DEMO / "second.wav", 16_000)[SAMPLES : 2 * SAMPLES] * 32768)
    pcm = samples.astype(np.int16)
    graph = GraphSession(load_graph(keywords / "recipes" / "keywords.pb"))
    fed = {"wav_data": np.array(wav_bytes(pcm, 16_000), object)}
    (wanted,) = graph.run(["labels_softmax"], fed)
    with open_artifact(artifact) as transcriber:
        found = transcriber.probabilities(pcm).probabilities
        np.testing.assert_allclose(found, wanted, atol=2e-4)
        assert transcriber.transcribe(pcm).text == WORDS[int(wanted[0].argmax())]
    done = run_asrbuild("transcribe", str(artifact), str(DEMO / "second.wav"), cwd=keywords)
    assert done.code == 0, done.err
    assert done.out.split()[-1] in WORDS


def test_a_graph_is_shown_with_its_cuts(keywords: Path) -> None:
    done = run_asrbuild("inspect", "graph", "recipes/keywords.pb", cwd=keywords)
    cuts = done.out.split("Cuts\n")[1].split("\nOperations")[0]
    assert "Mfcc\tsource.config.cut=[Mfcc]" in cuts
    assert "decoded_sample_data:1\t+source.config.pin={decoded_sample_data\\:1: 16000}" in cuts


def test_a_published_saved_model_agrees_with_its_authors_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The model is Basic Pitch, whose author publishes ONNX and a Core ML package too."""
    frozen: list[Path] = []

    def freeze(model: Path, signature: str, destination: Path) -> None:
        frozen.append(model)
        by_tensorflow(model, signature, destination)

    by_tensorflow = saved_model.freeze
    monkeypatch.setattr(saved_model, "freeze", freeze)
    folder = tmp_path
    monkeypatch.chdir(folder)
    write_recipe("basic_pitch", folder / "recipes")
    given = ["--config-dir", "recipes", "name=pitch", "source=basic_pitch", "coreml.precision=fp32"]
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", "a")
    monkeypatch.setenv("ASRBUILD_CACHE", "c")
    code, _, err = run_main([*given, *SECOND], monkeypatch, capfd)
    assert code == 0, err
    # Its draft, the reference and the conversion are made of one.
    assert len(frozen) == 1
    (artifact,) = (path for path in (folder / "a" / "pitch").iterdir() if path.name[0] == "1")
    manifest: Any = read_manifest(artifact)
    assert manifest.provenance.recipe["source"]["kind"] == "saved_model"
    (fed,) = manifest.model.inputs
    samples = read_audio(DEMO / "sample.wav", 16_000)[: fed.shape[1].default]
    data = samples.astype(np.float32)[None, :, None]
    folder_of_author = MODELS["basic_pitch"].file(folder).parent
    session = onnxruntime.InferenceSession(
        folder_of_author / "nmp.onnx", providers=["CPUExecutionProvider"]
    )
    (of_onnx,) = session.run(["StatefulPartitionedCall:0"], {session.get_inputs()[0].name: data})
    theirs = load(folder_of_author / "nmp.mlpackage").predict({"input_2": data})["Identity"]
    with open_artifact(artifact) as transcriber:
        ours = transcriber.package.predict({fed.name: data})["contour"]
        # Its largest magnitude, by which the model divides, is zero.
        silent = transcriber.package.predict({fed.name: np.zeros_like(data)})["contour"]
    (of_silence,) = session.run(
        ["StatefulPartitionedCall:0"], {session.get_inputs()[0].name: np.zeros_like(data)}
    )
    assert np.ptp(of_onnx) > 0.3
    np.testing.assert_allclose(silent, of_silence, atol=5e-5)
    for other in (ours, theirs):
        # Sums of a constant-Q transform in another order differ by that much before a sigmoid.
        np.testing.assert_allclose(other, of_onnx, atol=5e-5)
