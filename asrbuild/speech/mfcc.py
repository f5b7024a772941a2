"""MFCC features equal to TensorFlow's AudioSpectrogram and Mfcc kernels, in numpy.

A frame is a Hann window of samples; its magnitudes go through triangular mel bands, a logarithm
and a DCT. A model step sees a context window: the frame and ``n_context`` neighbours on each side,
with frames of zeros past both ends of the recording.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from asrbuild.base.array import Array
from asrbuild.speech.frames import Framing, check_bands, frames_of, refuse


@dataclass(frozen=True)
class FeatureSettings(Framing):
    """The settings of features of the kind ``mfcc_tf``; the defaults are DeepSpeech's.

    Args:
        sample_rate: samples a second.
        window: samples in one frame.
        stride: samples from one frame to the next.
        n_mels: mel bands.
        lower_hz: lower edge of the first band.
        upper_hz: upper edge of the last band; half the sample rate for DeepSpeech.
        n_input: number of cepstral coefficients.
        log_floor: smallest band value before the logarithm.
        n_context: frames on each side of the current one.
    """

    kind: ClassVar[str] = "mfcc_tf"

    sample_rate: int = 16_000
    window: int = 512
    stride: int = 320
    n_mels: int = 40
    lower_hz: float = 20.0
    upper_hz: float = 8_000.0
    n_input: int = 26
    log_floor: float = 1e-12
    n_context: int = 9

    def __post_init__(self) -> None:
        check_bands(self, "n_input")
        bad = ["n_context"] if self.n_context < 0 else []
        bad += ["n_input"] if self.n_input > self.n_mels else []
        bad += ["log_floor"] if self.log_floor <= 0 else []
        refuse(self, bad)

    @property
    def fft_size(self) -> int:
        """The window, zero-padded to a power of two, as TensorFlow does."""
        return 1 << (self.window - 1).bit_length()

    @property
    def n_window(self) -> int:
        """Frames in the context window of a step."""
        return 2 * self.n_context + 1


def mfcc(samples: Array, settings: FeatureSettings) -> Array:
    """Computes coefficients, float32 (steps, n_input), of float32 samples (n,) in [-1, 1]."""
    frames = frames_of(samples, settings) * _hann(settings.window)
    spectrum = np.fft.rfft(frames, n=settings.fft_size, axis=-1)
    bands = np.maximum(np.abs(spectrum) @ mel_weights(settings), settings.log_floor)
    coefficients: Array = np.log(bands) @ _dct(settings.n_mels, settings.n_input)
    return coefficients.astype(np.float32)


def log_bands(coefficients: Array, settings: FeatureSettings) -> Array:
    """The logarithms of mel bands (steps, n_mels) of coefficients (steps, n_input).

    They show only the envelope of the spectrum, which is all that the model reads.
    """
    return coefficients @ np.linalg.pinv(_dct(settings.n_mels, settings.n_input))


def context_windows(coefficients: Array, n_context: int) -> Array:
    """Windows (steps, 2 * n_context + 1, n_input) of (steps, n_input), zeros past both ends."""
    if not len(coefficients):
        return np.zeros((0, 2 * n_context + 1, coefficients.shape[1]), np.float32)
    padded = np.pad(coefficients, ((n_context, n_context), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * n_context + 1, axis=0)
    return np.ascontiguousarray(windows.transpose(0, 2, 1))


def features(samples: Array, settings: FeatureSettings) -> Array:
    """The model's input, float32 (steps, n_window, n_input), of samples (n,) in [-1, 1]."""
    return context_windows(mfcc(samples, settings), settings.n_context)


class FeatureStream:
    """A stream: computes the windows of ``features`` for samples that arrive in pieces.

    A window is complete with its right context, ``n_context`` steps after its own frame.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        self._settings = settings
        self._samples: Array = np.zeros(0, np.float32)
        # The left context of the next window, then frames that still lack their right context.
        self._frames: Array = np.zeros((settings.n_context, settings.n_input), np.float32)
        self._finished = False

    def push(self, samples: Array) -> Array:
        """Takes samples (n,); returns the windows (k, n_window, n_input) that are complete now."""
        if self._finished:
            raise ValueError("the stream is finished")
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        new = mfcc(self._samples, self._settings)
        self._samples = self._samples[len(new) * self._settings.stride :]
        return self._take(new)

    def finish(self) -> Array:
        """Returns the last windows, with zeros as right context.

        Samples after the last whole frame are dropped.
        """
        if self._finished:
            raise ValueError("the stream is finished")
        self._finished = True
        return self._take(np.zeros((self._settings.n_context, self._settings.n_input), np.float32))

    def _take(self, new: Array) -> Array:
        frames = np.concatenate([self._frames, new])
        complete = len(frames) - 2 * self._settings.n_context
        if complete <= 0:
            self._frames = frames
            return np.zeros((0, self._settings.n_window, self._settings.n_input), np.float32)
        self._frames = frames[complete:]
        windows = np.lib.stride_tricks.sliding_window_view(frames, self._settings.n_window, axis=0)
        return np.ascontiguousarray(windows.transpose(0, 2, 1))


@functools.lru_cache(maxsize=8)
def mel_weights(settings: FeatureSettings) -> Array:
    """Band weights for magnitudes, (fft_size / 2 + 1, n_mels), equal to TensorFlow's Mfcc.

    Bands are triangles on the mel scale; every bin belongs to the two bands around it. The range of
    bins is TensorFlow's too: it has no DC, and its first bin is rounded from the lower edge.
    """
    bins = settings.fft_size // 2 + 1
    low, high = mel(settings.lower_hz), mel(settings.upper_hz)
    edges = low + (high - low) / (settings.n_mels + 1) * np.arange(settings.n_mels + 2)
    hz_per_bin = 0.5 * settings.sample_rate / (bins - 1)
    used = np.arange(
        int(1.5 + settings.lower_hz / hz_per_bin), int(settings.upper_hz / hz_per_bin) + 1
    )
    mels = mel(used * hz_per_bin)
    # edges[upper] is the centre of the band above the bin, edges[upper - 1] that of the band below.
    upper = np.minimum(np.searchsorted(edges[1:], mels, side="left"), settings.n_mels) + 1
    falling = (edges[upper] - mels) / (edges[upper] - edges[upper - 1])
    weights = np.zeros((bins, settings.n_mels + 2))
    weights[used, upper - 1] += falling
    weights[used, upper] += 1.0 - falling
    # Columns 0 and n_mels + 1 are the two outer edges, not bands.
    return weights[:, 1:-1]


def mel(hz: Array | float) -> Array:
    """Frequencies on the mel scale of TensorFlow and Kaldi."""
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


@functools.lru_cache(maxsize=8)
def _hann(window: int) -> Array:
    """Periodic Hann window (window,)."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)


def dct(settings: FeatureSettings) -> Array:
    """The matrix (n_mels, n_input) from bands to coefficients; ``bands @ matrix``."""
    return _dct(settings.n_mels, settings.n_input)


@functools.lru_cache(maxsize=8)
def _dct(n_mels: int, n_input: int) -> Array:
    """DCT-II (n_mels, n_input), scaled by sqrt(2 / n_mels)."""
    angles = np.pi / n_mels * np.outer(np.arange(n_mels) + 0.5, np.arange(n_input))
    scaled: Array = np.sqrt(2.0 / n_mels) * np.cos(angles)
    return scaled
