"""The way from samples to words by a manifest: the same words for every form of input."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.artifact import runtime
from asrbuild.artifact.manifest import Manifest, to_json
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.audio import read_audio, to_int16
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.artifact.numpy_package import (
    LABELS,
    NumpyPackage,
    enumerated,
    fixed,
    make_manifest,
    network,
    ranged,
)
from tests.paths import DEMO

SAMPLE = DEMO / "sample.wav"
MANIFESTS = {
    "chunked": make_manifest(fixed("steps", 16)),
    "whole": make_manifest(ranged(1, None), "whole", None),
    "enumerated": make_manifest(enumerated([16, 32, 1]), "chunked", 32),
}


@pytest.fixture
def opened(tmp_path: Path, weights: AcousticWeights, monkeypatch: pytest.MonkeyPatch):
    """Writes an artifact directory with the manifest, and opens it with the numpy package."""

    def open_it(manifest: Manifest, decoder: DecoderSettings | None = None):
        (tmp_path / manifest.model.package).mkdir(exist_ok=True)
        (tmp_path / "manifest.json").write_text(to_json(manifest))
        monkeypatch.setattr(
            executor,
            "load",
            lambda path, function=None: NumpyPackage(manifest, weights),
        )
        return runtime.open_artifact(tmp_path, decoder)

    return open_it


def _expected_text(samples: np.ndarray, weights: AcousticWeights) -> str:
    """Greedy words of one call of the network, decoded by hand."""
    zeros = np.zeros((1, weights.n_hidden), np.float32)
    rows, _, _ = network(weights, features(samples, FeatureSettings()), zeros, zeros)
    merged = [int(label) for label, _ in itertools.groupby(rows.argmax(1))]
    return "".join(LABELS[label] for label in merged if label != 28)


@pytest.mark.parametrize("name", list(MANIFESTS))
def test_a_recording_is_transcribed(name: str, opened, weights: AcousticWeights) -> None:
    samples = read_audio(SAMPLE, 16_000)
    partial: list[str] = []
    with opened(MANIFESTS[name]) as transcriber:
        found = transcriber.transcribe(samples, partial.append)
        assert transcriber.transcribe(to_int16(samples)).text == found.text
    assert found.text == _expected_text(samples, weights)
    assert partial[-1] == found.text
    assert len(partial) > 5
    assert all(after.startswith(before) for before, after in itertools.pairwise(partial))
    assert found.audio_s == pytest.approx(len(samples) / 16_000)
    assert found.acoustic_s + found.decoder_s > 0
    assert all(0 <= w.start_s < w.end_s <= found.audio_s + 0.02 for w in found.hypotheses[0].words)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=8), name=st.sampled_from(list(MANIFESTS)))
def test_sound_may_arrive_in_pieces(cuts: list[int], name: str, weights: AcousticWeights) -> None:
    manifest = MANIFESTS[name]
    samples = read_audio(SAMPLE, 16_000)[:48_000]
    transcriber = runtime.Transcriber(
        Path(),
        manifest,
        runtime.Contract.of(manifest),
        runtime.feature_settings(manifest),
        make_alphabet(LABELS),
        NumpyPackage(manifest, weights),
        runtime.open_decoder(DecoderSettings(), make_alphabet(LABELS), 20.0),
    )
    utterance, at = runtime.Utterance(transcriber), 0
    for cut in [*cuts, len(samples)]:
        utterance.push(samples[at : at + cut])
        at += cut
    assert utterance.finish().hypotheses == transcriber.transcribe(samples).hypotheses


@pytest.mark.parametrize("samples", [0, 1, 511, 512])
def test_less_than_one_step_gives_no_words(samples: int, opened) -> None:
    with opened(MANIFESTS["chunked"]) as transcriber:
        found = transcriber.transcribe(np.zeros(samples, np.float32))
    assert found.real_time_factor >= 0
    if samples < 512:
        assert found.text == ""
        assert found.hypotheses[0].words == ()


def test_the_decoder_may_differ_from_that_of_the_manifest(opened) -> None:
    samples = read_audio(SAMPLE, 16_000)[:32_000]
    with opened(MANIFESTS["chunked"], DecoderSettings("beam", 20)) as transcriber:
        found = transcriber.transcribe(samples, n_best=3)
    assert len(found.hypotheses) == 3


def test_an_artifact_without_its_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(to_json(MANIFESTS["chunked"]))
    with pytest.raises(AsrbuildError, match=r"the artifact lacks its package test.mlpackage"):
        runtime.open_artifact(tmp_path)


def _changed(section: str, **fields: object) -> Manifest:
    manifest = MANIFESTS["chunked"]
    return manifest.model_copy(
        update={section: getattr(manifest, section).model_copy(update=fields)}
    )


@pytest.mark.parametrize(
    ("manifest", "key"),
    [
        (_changed("decoder", blank_index=0), "decoder.blank_index"),
        (_changed("decoder", alphabet=LABELS[:-1], blank_index=27), "decoder.alphabet"),
        (_changed("features", context_frames=5), "features"),
        (_changed("features", fft_size=1024), "features.fft_size"),
        (_changed("features", upper_hz=9000.0), "features.upper_hz"),
        (_changed("streaming", steps_per_chunk=20), None),
        (_changed("streaming", steps_per_chunk=8), "streaming.steps_per_chunk"),
        (_changed("decoder", beam_width=0), "decoder.beam_width"),
    ],
)
def test_contradictory_manifests_are_refused(manifest: Manifest, key: str, opened) -> None:
    with pytest.raises(AsrbuildError) as caught:
        opened(manifest)
    assert caught.value.key == key
