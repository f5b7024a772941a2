"""Every kind of features by its name: its settings, its computation, and its streams.

``mfcc_tf`` is for DeepSpeech (:mod:`asrbuild.speech.mfcc`), ``none`` for a network that reads
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.features.fbank_kaldi import FbankKaldi, fbank_kaldi
from asrbuild.speech.features.log_mel import (
    LogMelNemo,
    LogMelWhisper,
    log_mel_nemo,
    log_mel_whisper,
)
from asrbuild.speech.frames import Framing
from asrbuild.speech.mfcc import FeatureSettings, FeatureStream, features


@dataclass(frozen=True)
class Samples(Framing):
    """The settings of a network that reads samples: each sample is a step."""

    kind: ClassVar[str] = "none"

    sample_rate: int = 16_000

    @property
    def window(self) -> int:  # type: ignore[override]
        return 1

    @property
    def stride(self) -> int:  # type: ignore[override]
        return 1


Settings = FeatureSettings | LogMelWhisper | LogMelNemo | FbankKaldi | Samples

KINDS: Mapping[str, type[Any]] = {
    "mfcc_tf": FeatureSettings,
    "log_mel_whisper": LogMelWhisper,
    "log_mel_nemo": LogMelNemo,
    "fbank_kaldi": FbankKaldi,
    "none": Samples,
}


def make_settings(kind: str, **values: Any) -> Settings:
    """Makes the settings of a kind; omitted settings have that kind's defaults.

    Raises:
        AsrbuildError: there is no such kind, or it has no such setting or value.
    """
    if kind not in KINDS:
        raise AsrbuildError(
            f"no features are of the kind {kind}",
            key="features.kind",
            fix=f"choose one of {', '.join(KINDS)}",
        )
    known = [field.name for field in fields(KINDS[kind])]
    if unknown := [name for name in values if name not in known]:
        raise AsrbuildError(
            f"{kind} has no setting {unknown[0]}",
            key=f"features.{unknown[0]}",
            fix=f"its settings are {', '.join(known)}",
        )
    made: Settings = KINDS[kind](**values)
    return made


def compute(samples: Array, settings: Settings) -> Array:
    """Computes features, float32 (steps, ...), of float32 samples (n,) in [-1, 1].

    MFCC have the shape (steps, window, coefficients), log mel features (steps, bands), samples
    (n,).
    """
    if isinstance(settings, FeatureSettings):
        return features(samples, settings)
    if isinstance(settings, LogMelWhisper):
        return log_mel_whisper(samples, settings)
    if isinstance(settings, LogMelNemo):
        return log_mel_nemo(samples, settings)
    if isinstance(settings, FbankKaldi):
        return fbank_kaldi(samples, settings)
    return np.asarray(samples, np.float32)


class KindStream(Protocol):
    """A stream: computes features of samples that arrive in pieces, equal to those of the whole."""

    def push(self, samples: Array) -> Array:
        """Takes samples (n,); returns the features that are complete now."""
        ...

    def finish(self) -> Array:
        """Ends the recording; returns the remaining features."""
        ...


def open_stream(settings: Settings) -> KindStream:
    """Opens a stream; features that depend on the whole recording all come at its end."""
    if isinstance(settings, FeatureSettings):
        return FeatureStream(settings)
    if isinstance(settings, FbankKaldi | Samples):
        return _FrameStream(settings)
    return _WholeStream(settings)


class _FrameStream:
    """A stream of features whose frames depend on their own samples alone."""

    def __init__(self, settings: FbankKaldi | Samples) -> None:
        self._settings = settings
        self._samples: Array = np.zeros(0, np.float32)

    def push(self, samples: Array) -> Array:
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        new = compute(self._samples, self._settings)
        self._samples = self._samples[len(new) * self._settings.stride :]
        return new

    def finish(self) -> Array:
        return compute(self._samples[:0], self._settings)


class _WholeStream:
    """A stream of features that each depend on the whole recording."""

    def __init__(self, settings: LogMelWhisper | LogMelNemo) -> None:
        self._settings = settings
        self._pieces: list[Array] = [np.zeros(0, np.float32)]

    def push(self, samples: Array) -> Array:
        self._pieces.append(np.array(samples, np.float32))
        return compute(self._pieces[0], self._settings)

    def finish(self) -> Array:
        return compute(np.concatenate(self._pieces), self._settings)
