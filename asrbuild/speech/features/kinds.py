"""Every kind of features by its name: settings, computation, and computation bit by bit.

``mfcc_tf`` is DeepSpeech's (:mod:`asrbuild.speech.mfcc`). ``none`` is for a network that reads
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.features.fbank_kaldi import FbankKaldi, fbank_kaldi
from asrbuild.speech.features.frames import Framing
from asrbuild.speech.features.log_mel import (
    LogMelNemo,
    LogMelWhisper,
    log_mel_nemo,
    log_mel_whisper,
)
from asrbuild.speech.mfcc import FeatureSettings, FeatureStream, features

FeatureKind = Literal["mfcc_tf", "log_mel_whisper", "log_mel_nemo", "fbank_kaldi", "none"]


@dataclass(frozen=True)
class Samples(Framing):
    """A network that reads samples: each is a step of its own."""

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
    """The settings of a kind; what is left out has that kind's default.

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
    """float32 samples (n,) in [-1, 1] to features, float32 (steps, ...).

    MFCC are (steps, window, coefficients), the other kinds (steps, bands), samples (n,).
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
    """Features of samples that arrive bit by bit: together the same as those of the whole."""

    def push(self, samples: Array) -> Array:
        """Takes samples (n,); the features that became complete."""
        ...

    def finish(self) -> Array:
        """The recording is over: the features that were still waiting."""
        ...


def open_stream(settings: Settings) -> KindStream:
    """A fresh stream; of features that look at the whole recording, all come at its end."""
    if isinstance(settings, FeatureSettings):
        return FeatureStream(settings)
    if isinstance(settings, FbankKaldi | Samples):
        return _FrameStream(settings)
    return _WholeStream(settings)


class _FrameStream:
    """Features whose frames depend on their own samples alone."""

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
    """Features of which each depends on the whole recording."""

    def __init__(self, settings: LogMelWhisper | LogMelNemo) -> None:
        self._settings = settings
        self._pieces: list[Array] = [np.zeros(0, np.float32)]

    def push(self, samples: Array) -> Array:
        self._pieces.append(np.array(samples, np.float32))
        return compute(self._pieces[0], self._settings)

    def finish(self) -> Array:
        return compute(np.concatenate(self._pieces), self._settings)
