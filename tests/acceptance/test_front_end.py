"""A DeepSpeech package with its front end inside: samples in, the same words out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import Utterance, open_artifact
from asrbuild.speech.audio import read_audio
from tests.command import run_main
from tests.paths import DEMO, SAMPLE_TEXT


def test_the_proof_is_of_samples(of_samples: Path) -> None:
    manifest = read_manifest(of_samples)
    assert manifest.schema_version == "2.0"
    assert (manifest.features.kind, manifest.features.place) == ("mfcc_tf", "package")
    inputs = {tensor.name: tensor for tensor in manifest.model.inputs}
    # 16 rows of 320 samples, nine frames on each side, and the rest of a window.
    assert inputs["samples"].shape[1].default == 34 * 320 + 192
    assert inputs["real_samples"].meaning == "step_range"
    assert manifest.provenance.recipe["n_steps"] == 16
    assert (manifest.context.left_steps, manifest.context.trimmed) == (2_880, True)
    logits = [m for m in manifest.verification.metrics if m.output == "logits"]
    assert all(m.value >= 60 for m in logits if m.name == "psnr_db")
    assert {m.input for m in logits} >= {"sample", "silence", "steps_11071", "steps_11073"}


def test_words_are_written_while_samples_arrive_in_pieces_of_any_size(of_samples: Path) -> None:
    samples = read_audio(DEMO / "sample.wav", 16_000)
    partial: list[str] = []
    with open_artifact(of_samples) as transcriber:
        utterance = Utterance(transcriber, partial.append)
        for piece in np.split(samples, [100, 101, 5_000, 60_000, 60_001, 150_000]):
            utterance.push(piece)
            if len(piece) == 55_000:
                assert SAMPLE_TEXT.startswith(partial[-1][:-2])
                assert 10 < len(partial[-1]) < len(SAMPLE_TEXT) / 2
        assert utterance.finish().text == SAMPLE_TEXT
        # Recordings shorter than a frame, and than one call.
        for length, rows in ((0, 0), (511, 0), (512, 1), (4_000, 11)):
            assert len(transcriber.probabilities(samples[:length]).probabilities) == rows


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("coreml=neuralnetwork", "a neuralnetwork stores weights in half precision"),
        ("coreml.frontend=tensorflow coreml.lstm=loop", "converts the graph, which takes features"),
    ],
)
def test_packages_that_cannot_have_a_front_end_are_refused(
    override: str,
    message: str,
    at: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe = ["model=static", "features.place=package", "verify=quick", *override.split()]
    code, _, err = run_main(recipe, monkeypatch, capfd)
    assert code == 1
    assert message in err
    assert "key: features.place" in err
