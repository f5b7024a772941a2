"""Log mel spectrograms as Whisper and NeMo compute them, in numpy.

Frames of both are centred: frame f is around sample ``f * stride``, both ends of a recording are
padded by half a window, and n samples make ``n // stride`` frames. Bands are Slaney's: linear below
1 kHz, logarithmic above, each divided by its width. Sources of the formulas:

- Whisper: ``whisper/audio.py`` (``log_mel_spectrogram``): reflected ends, base 10, no more than
  8 below the loudest band of the recording, scaled.
- NeMo: ``nemo/collections/asr/parts/preprocessing/features.py`` (``FilterbankFeatures``), dither
  off: pre-emphasis, zeros at the ends, 2^-24 added before the logarithm, each band normalised over
  the recording.
- Bands: ``librosa.filters.mel(htk=False, norm="slaney")``, which both call.

Both depend on the whole recording, so they cannot be streamed, except NeMo's without normalisation,
which its streaming models read.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.frames import Framing, check_bands, frames_of

#: Added to the standard deviation of a band before the division.
NEMO_DEVIATION = 1e-5
WHISPER_FLOOR, WHISPER_RANGE = 1e-10, 8.0


class _Centred(Framing):
    """Frames around the samples 0, ``stride``, ``2 * stride`` and so on."""

    @property
    def edge(self) -> int:
        """Samples of padding at each end."""
        return self.window // 2

    def steps(self, samples: int) -> int:
        """The number of frames of ``samples`` samples."""
        return samples // self.stride


@dataclass(frozen=True)
class LogMelWhisper(_Centred):
    """The settings of Whisper's features.

    Args:
        sample_rate: samples a second.
        window: samples in one frame, and points of its Fourier transform.
        stride: samples from one frame to the next.
        n_mels: mel bands; 128 for large-v3.
    """

    kind: ClassVar[str] = "log_mel_whisper"

    sample_rate: int = 16_000
    window: int = 400
    stride: int = 160
    n_mels: int = 80

    def __post_init__(self) -> None:
        check_bands(self)

    @property
    def lower_hz(self) -> float:
        """Lower edge of the first band."""
        return 0.0

    @property
    def upper_hz(self) -> float:
        """Upper edge of the last band: half the sample rate."""
        return self.sample_rate / 2

    @property
    def width(self) -> int:
        """The number of features of a step: the mel bands."""
        return self.n_mels

    @property
    def fft_size(self) -> int:
        """Points of the Fourier transform: the window."""
        return self.window


@dataclass(frozen=True)
class LogMelNemo(_Centred):
    """The settings of NeMo's features.

    Args:
        sample_rate: samples a second.
        window: samples in one frame.
        stride: samples from one frame to the next.
        fft_size: points of the Fourier transform; the window is in its middle.
        n_mels: mel bands.
        lower_hz: lower edge of the first band.
        upper_hz: upper edge of the last band.
        preemphasis: share of the previous sample that is subtracted from each sample.
        log_floor: added before the logarithm.
        normalize: ``per_feature``: each band has mean 0 and deviation 1 over the recording; or
            ``none``.
    """

    kind: ClassVar[str] = "log_mel_nemo"

    sample_rate: int = 16_000
    window: int = 400
    stride: int = 160
    fft_size: int = 512
    n_mels: int = 80
    lower_hz: float = 0.0
    upper_hz: float = 8_000.0
    preemphasis: float = 0.97
    log_floor: float = 2.0**-24
    normalize: Literal["per_feature", "none"] = "per_feature"

    def __post_init__(self) -> None:
        check_bands(self)
        if self.fft_size < self.window:
            raise AsrbuildError(
                f"features cannot be made: fft_size is {self.fft_size}, the window {self.window}",
                key="features.fft_size",
            )
        if self.normalize not in ("per_feature", "none"):
            raise AsrbuildError(
                f"features cannot be made: normalize is {self.normalize}",
                key="features.normalize",
                fix="choose per_feature or none",
            )

    @property
    def width(self) -> int:
        """The number of features of a step: the mel bands."""
        return self.n_mels


def log_mel_whisper(samples: Array, settings: LogMelWhisper) -> Array:
    """float32 samples (n,) in [-1, 1] to float32 (frames, n_mels)."""
    count = settings.steps(len(samples))
    if not count:
        return np.zeros((0, settings.n_mels), np.float32)
    padded = np.pad(samples, settings.edge, mode="reflect")
    power = _power(padded, settings, hann(settings.window, periodic=True))[:count]
    logs = np.log10(np.maximum(power @ slaney_weights(settings), WHISPER_FLOOR))
    scaled: Array = (np.maximum(logs, logs.max() - WHISPER_RANGE) + 4.0) / 4.0
    return scaled.astype(np.float32)


def log_mel_nemo(samples: Array, settings: LogMelNemo) -> Array:
    """float32 samples (n,) in [-1, 1] to float32 (frames, n_mels).

    A recording of one frame has no deviation; its features are zeros.
    """
    count = settings.steps(len(samples))
    wide = np.asarray(samples, np.float64)
    emphasised = np.append(wide[:1], wide[1:] - settings.preemphasis * wide[:-1])
    padded = np.pad(emphasised, settings.edge)
    power = _power(padded, settings, hann(settings.window, periodic=False))[:count]
    logs: Array = np.log(power @ slaney_weights(settings) + settings.log_floor)
    if settings.normalize == "per_feature" and count:
        deviation = logs.std(axis=0, ddof=1) if count > 1 else 0.0
        logs = (logs - logs.mean(axis=0)) / (deviation + NEMO_DEVIATION)
    return logs.astype(np.float32)


def _power(samples: Array, settings: LogMelWhisper | LogMelNemo, window: Array) -> Array:
    # The place of the window among the points of the transform changes only phases.
    frames = frames_of(samples, settings) * window
    power: Array = np.square(np.abs(np.fft.rfft(frames, n=settings.fft_size, axis=-1)))
    return power


def hann(window: int, *, periodic: bool) -> Array:
    """Hann window, float64 (window,)."""
    period = window if periodic else window - 1
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / period)


@functools.lru_cache(maxsize=8)
def slaney_weights(settings: LogMelWhisper | LogMelNemo) -> Array:
    """Band weights for powers, (fft_size / 2 + 1, n_mels), equal to librosa's."""
    bins = np.linspace(0.0, settings.sample_rate / 2, settings.fft_size // 2 + 1)[:, None]
    low, high = _to_mel(settings.lower_hz), _to_mel(settings.upper_hz)
    edges = _to_hz(np.linspace(low, high, settings.n_mels + 2))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    weights: Array = triangles * (2.0 / (right - left))
    return weights


#: Slaney's scale: 200 / 3 Hz a mel below 1 kHz, and 27 mels for a factor of 6.4 above.
_LINEAR_HZ, _BREAK_HZ, _LOG_STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ


def _to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _to_hz(mels: Array) -> Array:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, above)
