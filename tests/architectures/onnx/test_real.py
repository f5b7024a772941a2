"""Real models from wheels: conversion against onnxruntime, and their measured facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.onnx.settle import settled
from asrbuild.speech.audio import read_audio
from tests.architectures.onnx.harness import expected, lowered
from tests.paths import DEMO
from tests.wheels import fetched


@pytest.fixture(scope="session")
def wheels() -> Path:
    return fetched()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Four seconds of speech, (64000,) float32."""
    samples = read_audio(DEMO / "second.wav", 16_000)
    return np.resize(samples, 64_000).astype(np.float32)


def test_hama_gives_the_same_phonemes_at_any_length(wheels: Path, speech: np.ndarray) -> None:
    import onnx

    path = wheels / "hama" / "assets" / "asr_waveform_fp16.onnx"
    model = onnx.load(path)
    feeds = {"waveform": speech[None], "waveform_lengths": np.array([len(speech)])}
    run = lowered(path, feeds)
    for count in (64_000, 40_321):
        part = {"waveform": speech[None, :count], "waveform_lengths": np.array([count])}
        got, wanted = run(part)["log_probs"], expected(model, part)["log_probs"]
        # The original computes in half precision: it differs from itself by that much in float32.
        assert np.abs(np.exp(got) - np.exp(wanted)).max() < 5e-2
        np.testing.assert_array_equal(got.argmax(axis=-1), wanted.argmax(axis=-1))


def test_the_facts_of_hama_are_measured(wheels: Path, tmp_path: Path) -> None:
    path = wheels / "hama" / "assets" / "asr_waveform_fp16.onnx"
    found = settled(path, OnnxConfig(), tmp_path, keep=True)
    config = found.config
    assert config["inputs"]["waveform"] == {"meaning": "samples", "axes": [1, "samples"]}
    assert config["inputs"]["waveform_lengths"]["meaning"] == "step_count"
    assert config["outputs"]["log_probs"]["meaning"] == "log_probabilities"
    assert config["outputs"]["out_lengths"]["meaning"] == "row_count"
    assert config["rows"] == {"steps": 320, "add": 320, "most": 1500}
    # Squeeze-and-excite pools over the whole recording, so no context makes chunks exact.
    assert config["context"] == {
        "causal": False,
        "left": 16_000,
        "right": 16_000,
        "padding": "changes_output",
    }
    assert found.classes == 191


@pytest.mark.parametrize("file", ["silero_vad.onnx", "silero_vad_16k_op15.onnx"])
def test_silero_carries_its_state_through_pinned_branches(
    wheels: Path, speech: np.ndarray, file: str
) -> None:
    import onnx

    path = wheels / "silero_vad" / "data" / file
    model = onnx.load(path)
    state = np.zeros((2, 1, 128), np.float32)
    first = {"input": speech[None, :576], "state": state}
    run = lowered(path, first, pins={"sr": 16_000}, any_size=False)
    ours, theirs = state, state
    for at in range(20_000, 26_000, 512):
        window = speech[None, at : at + 576]
        got = run({"input": window, "state": ours})
        wanted = expected(model, {"input": window, "state": theirs, "sr": np.array(16_000)})
        np.testing.assert_allclose(got["output"], wanted["output"], atol=2e-5)
        ours, theirs = got["stateN"], wanted["stateN"]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_basic_pitch_agrees(wheels: Path, speech: np.ndarray) -> None:
    import onnx

    path = wheels / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp.onnx"
    feeds = {"serving_default_input_2:0": speech[None, :43_844, None]}
    got = lowered(path, feeds, any_size=False)(feeds)
    for name, array in expected(onnx.load(path), feeds).items():
        np.testing.assert_allclose(got[name], array, atol=5e-5)
