"""Features of each kind against other implementations, whole and as a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.features.kinds import (
    KINDS,
    FbankKaldi,
    LogMelNemo,
    LogMelWhisper,
    Samples,
    Settings,
    compute,
    make_settings,
    open_stream,
)
from tests.paths import DATA
from tests.speech.features.signals import signals

RAW = LogMelNemo(normalize="none")
RECORDED = {
    "fbank_kaldi": FbankKaldi(),
    "log_mel_whisper": LogMelWhisper(),
    "log_mel_nemo": LogMelNemo(),
    "log_mel_nemo_raw": RAW,
}


@pytest.mark.parametrize("kind", RECORDED)
def test_features_equal_those_of_other_implementations(kind: str) -> None:
    """tools/record_features.py recorded them."""
    recorded = np.load(DATA / "features.npz")
    for name, samples in signals().items():
        if kind == "log_mel_nemo" and name in ("quiet", "silence"):
            continue  # normalisation divides a nearly constant band by its rounding errors
        settings = RECORDED[kind]
        found = compute(samples, settings)
        assert len(found) == settings.steps(len(samples)) == recorded[f"{kind}/{name}/steps"]
        expected = recorded[f"{kind}/{name}"]
        # Kaldi computes in float32, which cannot resolve powers below one int16 step.
        sure = expected > 0 if kind == "fbank_kaldi" and name != "silence" else ...
        np.testing.assert_allclose(found[::8][sure], expected[sure], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 399, 400, 512, 16_000])
def test_a_stream_gives_the_features_of_the_whole(kind: str, length: int) -> None:
    samples = signals()["speech"][:length]
    settings = make_settings(kind)
    stream = open_stream(settings)
    cuts = np.random.default_rng(length).integers(0, length + 1, 5)
    pieces = np.split(samples, np.sort(cuts))
    found = [*(stream.push(piece) for piece in pieces), stream.finish()]
    whole = compute(samples, settings)
    assert len(whole) == settings.steps(length)
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-6)


def test_features_of_single_frames_have_no_delay() -> None:
    samples = signals()["speech"]
    for settings, early in ((FbankKaldi(), 28), (RAW, 0), (Samples(), 4_800)):
        assert len(open_stream(settings).push(samples[:4_800])) == early


def test_settings_of_a_kind_are_read() -> None:
    settings = make_settings("fbank_kaldi", n_mels=40, sample_rate=8_000, upper_hz=4_000)
    assert (settings.kind, settings.width, settings.step_s) == ("fbank_kaldi", 40, 0.02)
    assert compute(np.ones(800, np.float32), settings).shape == (3, 40)
    for other in (replace(RAW, n_mels=64), LogMelWhisper(n_mels=128)):
        assert compute(np.ones(800, np.float32), other).shape == (5, other.n_mels)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("plp", {}, "no features are of the kind plp"),
        ("fbank_kaldi", {"dither": 1}, "fbank_kaldi has no setting dither"),
        ("fbank_kaldi", {"stride": 401}, "features cannot be made: stride is 401"),
        ("fbank_kaldi", {"upper_hz": 9e3}, "features cannot be made: upper_hz is 9000.0"),
        ("log_mel_nemo", {"fft_size": 256}, "features cannot be made: fft_size is 256"),
        ("log_mel_nemo", {"normalize": "all"}, "features cannot be made: normalize is all"),
        ("log_mel_whisper", {"n_mels": 0}, "features cannot be made: n_mels is 0"),
        ("mfcc_tf", {"n_input": 0}, "features cannot be made: n_input is 0"),
    ],
)
def test_impossible_settings_are_refused(kind: str, values: dict, message: str) -> None:
    with pytest.raises(AsrbuildError) as caught:
        make_settings(kind, **values)
    assert caught.value.message.startswith(message)
    assert caught.value.key.startswith("features.")


def test_every_settings_class_names_its_kind() -> None:
    for kind, made in KINDS.items():
        settings: Settings = made()
        assert (settings.kind, settings.sample_rate) == (kind, 16_000)
