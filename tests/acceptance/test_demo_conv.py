"""The second demo model: ONNX with states, its front end in the package or in the app."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import Utterance, open_artifact
from asrbuild.speech.audio import read_audio
from tests.paths import DEMO, SAMPLE_TEXT

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(("place", "steps"), [("app", 16 * 3), ("package", 16 * 480 + 240)])
def test_letters_are_written_while_samples_arrive(
    place: str, steps: int, conv: dict[str, Path]
) -> None:
    manifest = read_manifest(conv[place])
    assert manifest.streaming.steps_per_chunk == steps
    assert (manifest.features.kind, manifest.decoder.blank_index) == ("fbank_kaldi", 0)
    assert manifest.rows.row_ms == pytest.approx(30)
    assert manifest.model.minimum_os["iOS"] == "18"  # its GRU resets after the product
    assert len(manifest.state) == 4
    samples = read_audio(DEMO / "sample.wav", 16_000)
    with open_artifact(conv[place]) as transcriber:
        utterance = Utterance(transcriber)
        for piece in np.split(samples, [1, 5_000, 90_000]):
            partial = utterance.push(piece)
        assert SAMPLE_TEXT.startswith(partial[:40])
        found = utterance.finish()
        assert found.text == SAMPLE_TEXT
        [first, *_] = found.hypotheses[0].words
        assert (first.text, 0.2 < first.start_s < 0.6) == ("hello", True)


def test_both_places_give_the_same_rows(conv: dict[str, Path]) -> None:
    samples = read_audio(DEMO / "second.wav", 16_000)
    rows = []
    for place in ("app", "package"):
        with open_artifact(conv[place]) as transcriber:
            rows.append(transcriber.probabilities(samples).probabilities)
    np.testing.assert_allclose(*rows, atol=0.02)
