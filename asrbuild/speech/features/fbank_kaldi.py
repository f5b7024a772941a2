"""Log mel filter banks as Kaldi computes them, in numpy.

Models of k2, WeNet, sherpa and torchaudio's ``compliance.kaldi`` read these, with dither off and
``snip_edges`` on: every frame lies inside the recording, so that no padding is needed at its ends.
Source of the formulas: Kaldi's ``feat/feature-window.cc`` (``ProcessWindow``: mean, pre-emphasis,
Povey window) and ``feat/mel-computations.cc`` (``MelBanks``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from asrbuild.base.array import Array
from asrbuild.speech.frames import Framing, check_bands, frames_of
from asrbuild.speech.mfcc import mel

#: Kaldi's floor under the logarithm: ``std::numeric_limits<float>::epsilon()``.
LOG_FLOOR = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class FbankKaldi(Framing):
    """The settings of Kaldi's filter banks; the defaults are WeNet's and k2's.

    Args:
        sample_rate: samples a second.
        window: samples in one frame.
        stride: samples from one frame to the next.
        n_mels: mel bands.
        lower_hz: lower edge of the first band.
        upper_hz: upper edge of the last band.
        preemphasis: share of the previous sample that is subtracted from each sample.
        sample_scale: samples in [-1, 1] are multiplied by this first: Kaldi reads int16.
    """

    kind: ClassVar[str] = "fbank_kaldi"

    sample_rate: int = 16_000
    window: int = 400
    stride: int = 160
    n_mels: int = 80
    lower_hz: float = 20.0
    upper_hz: float = 8_000.0
    preemphasis: float = 0.97
    sample_scale: float = 32_768.0

    def __post_init__(self) -> None:
        check_bands(self)

    @property
    def width(self) -> int:
        """The number of features of a step: the mel bands."""
        return self.n_mels

    @property
    def fft_size(self) -> int:
        """Points of the Fourier transform: the window, padded to a power of two."""
        return 1 << (self.window - 1).bit_length()


def fbank_kaldi(samples: Array, settings: FbankKaldi) -> Array:
    """float32 samples (n,) in [-1, 1] to float32 (frames, n_mels)."""
    frames = frames_of(samples, settings)
    spectrum = np.fft.rfft(frames @ frame_matrix(settings), n=settings.fft_size, axis=-1)
    power = np.square(np.abs(spectrum))
    logs: Array = np.log(np.maximum(power @ mel_weights(settings), LOG_FLOOR))
    return logs.astype(np.float32)


@functools.lru_cache(maxsize=8)
def frame_matrix(settings: FbankKaldi) -> Array:
    """The processing of a frame before the Fourier transform, as one matrix (window, window).

    A frame times this matrix is scaled, has mean 0, and is pre-emphasised and windowed.
    """
    size = settings.window
    centred = np.eye(size) - 1.0 / size
    emphasis = np.eye(size) - settings.preemphasis * np.eye(size, k=1)
    emphasis[0, 0] = 1.0 - settings.preemphasis
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / (size - 1))
    matrix: Array = settings.sample_scale * (centred @ emphasis) * hann**0.85
    return matrix


@functools.lru_cache(maxsize=8)
def mel_weights(settings: FbankKaldi) -> Array:
    """Band weights for powers, (fft_size / 2 + 1, n_mels); the last bin is in no band."""
    bins = settings.fft_size // 2
    low, high = mel(settings.lower_hz), mel(settings.upper_hz)
    edges = low + (high - low) / (settings.n_mels + 1) * np.arange(settings.n_mels + 2)
    mels = mel(np.arange(bins) * settings.sample_rate / settings.fft_size)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mels - left) / (centre - left), (right - mels) / (right - centre)
    weights = np.zeros((bins + 1, settings.n_mels))
    weights[:bins] = np.maximum(0.0, np.minimum(rising, falling))
    return weights
