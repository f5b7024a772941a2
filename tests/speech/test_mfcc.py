"""MFCC features compared with TensorFlow's kernels, and streaming with one call."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.audio import read_audio
from asrbuild.speech.mfcc import FeatureSettings, FeatureStream, context_windows, features, mfcc
from tests.paths import DEMO

DEEPSPEECH = FeatureSettings()
SAMPLE = DEMO / "sample.wav"


@pytest.fixture(scope="module")
def tf() -> ModuleType:
    return pytest.importorskip("tensorflow")


def _tensorflow_mfcc(tf: ModuleType, samples: np.ndarray, wanted: FeatureSettings) -> np.ndarray:
    spectrogram = tf.raw_ops.AudioSpectrogram(
        input=samples[:, None],
        window_size=wanted.window,
        stride=wanted.stride,
        magnitude_squared=True,
    )
    return tf.raw_ops.Mfcc(
        spectrogram=spectrogram,
        sample_rate=wanted.sample_rate,
        upper_frequency_limit=wanted.upper_hz,
        lower_frequency_limit=wanted.lower_hz,
        filterbank_channel_count=wanted.n_mels,
        dct_coefficient_count=wanted.n_input,
    ).numpy()[0]


def _signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    speech = read_audio(SAMPLE, 16_000)
    return {
        "speech": speech,
        "clipped speech": np.clip(speech * 40, -1, 1),
        "quiet speech": np.round(speech * 32768 / 500) / 32768,
        "noise": rng.uniform(-1, 1, 20_000).astype(np.float32),
        "faint noise": (rng.standard_normal(20_000) * 1e-5).astype(np.float32),
        "silence": np.zeros(16_000, np.float32),
        "one click": np.eye(1, 9_000, 4_000, dtype=np.float32)[0],
        "square wave": np.sign(np.sin(np.arange(16_000) * 0.05)).astype(np.float32),
        "one window": rng.uniform(-1, 1, 512).astype(np.float32),
        "one stride more": rng.uniform(-1, 1, 832).astype(np.float32),
        "a sample less than that": rng.uniform(-1, 1, 831).astype(np.float32),
    }


@pytest.mark.parametrize("name", list(_signals()))
def test_features_equal_those_of_tensorflow(tf: ModuleType, name: str) -> None:
    samples = _signals()[name].astype(np.float32)
    ours = mfcc(samples, DEEPSPEECH)
    theirs = _tensorflow_mfcc(tf, samples, DEEPSPEECH)
    assert ours.shape == theirs.shape == (DEEPSPEECH.steps(len(samples)), 26)
    np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "wanted",
    [
        FeatureSettings(sample_rate=8_000, window=256, stride=160, upper_hz=4_000),
        FeatureSettings(upper_hz=4_000),
        FeatureSettings(window=400, stride=160),
        FeatureSettings(n_mels=26, n_input=13, lower_hz=0),
        FeatureSettings(sample_rate=44_100, window=1411, stride=882, upper_hz=22_050),
        FeatureSettings(n_mels=80, n_input=40, lower_hz=133.3, upper_hz=6_855.5),
    ],
    ids=lambda s: f"{s.sample_rate}-{s.window}-{s.n_mels}-{s.upper_hz:.0f}",
)
def test_features_of_other_settings_equal_those_of_tensorflow(
    tf: ModuleType, wanted: FeatureSettings
) -> None:
    samples = np.random.default_rng(6).uniform(-1, 1, 9_000).astype(np.float32)
    np.testing.assert_allclose(
        mfcc(samples, wanted), _tensorflow_mfcc(tf, samples, wanted), atol=1e-3, rtol=0
    )


def test_windows_have_their_neighbours_and_zeros_past_the_ends() -> None:
    coefficients = np.arange(1, 31, dtype=np.float32)[:, None] * np.ones((1, 26), np.float32)
    windows = context_windows(coefficients, 9)
    assert windows.shape == (30, 19, 26)
    for step in range(30):
        wanted = [n if 1 <= n <= 30 else 0 for n in range(step + 1 - 9, step + 1 + 10)]
        np.testing.assert_array_equal(windows[step, :, 0], wanted)


@settings(max_examples=60)
@given(
    length=st.integers(0, 12_000),
    cuts=st.lists(st.integers(0, 4_000), max_size=12),
    n_context=st.sampled_from([0, 1, 9]),
)
def test_streamed_windows_equal_those_of_one_call(
    length: int, cuts: list[int], n_context: int
) -> None:
    wanted = FeatureSettings(n_context=n_context)
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    stream, pieces, at = FeatureStream(wanted), [], 0
    for cut in [*cuts, length]:
        pieces.append(stream.push(samples[at : at + cut]))
        at += cut
    pieces.append(stream.finish())
    together = np.concatenate(pieces)
    assert together.shape == (wanted.steps(length), 2 * n_context + 1, 26)
    np.testing.assert_allclose(together, features(samples, wanted), atol=1e-4)


def test_a_window_comes_as_soon_as_its_context_is_complete() -> None:
    stream = FeatureStream(DEEPSPEECH)
    assert len(stream.push(np.zeros(512 + 9 * 320 - 1, np.float32))) == 0
    assert len(stream.push(np.zeros(1, np.float32))) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window", 0),
        ("stride", 600),
        ("upper_hz", 9_000.0),
        ("lower_hz", 8_000.0),
        ("n_input", 41),
        ("n_context", -1),
        ("log_floor", 0.0),
    ],
)
def test_impossible_settings_are_refused(key: str, value: float) -> None:
    with pytest.raises(AsrbuildError) as caught:
        FeatureSettings(**{key: value})
    assert caught.value.key == f"features.{key}"
