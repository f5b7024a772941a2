"""Runs an artifact: samples to features, probabilities and transcripts, as its manifest specifies.

It does not depend on recipes, TensorFlow or coremltools. :mod:`asrbuild.artifact.calls` calls the
package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact import manifest2
from asrbuild.artifact.calls import (
    Acoustic,
    Contract,
    Predicts,
    Probabilities,
    acoustic,
    call_size,
)
from asrbuild.artifact.manifest import Features, Manifest, with_function
from asrbuild.artifact.named_files import package_path
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import resolve_file
from asrbuild.coreml.choices import ASSET
from asrbuild.speech.audio import read_audio, to_int16
from asrbuild.speech.decoder import Decoder, Hypothesis
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.features import kinds
from asrbuild.speech.mfcc import FeatureSettings
from asrbuild.speech.tokens import Tokens

#: The output of a package that takes whole utterances is decoded in pieces of this many steps, so
#: that words still appear one after the other.
PARTIAL_STEPS = 16


@dataclass(frozen=True)
class Transcription:
    """The hypotheses for one recording, best first, and the computing times in seconds."""

    hypotheses: tuple[Hypothesis, ...]
    audio_s: float
    acoustic_s: float
    decoder_s: float

    @property
    def text(self) -> str:
        """The text of the best hypothesis."""
        return self.hypotheses[0].text

    @property
    def real_time_factor(self) -> float:
        """Computing time divided by the duration of the recording."""
        return (self.acoustic_s + self.decoder_s) / self.audio_s if self.audio_s else 0.0


@dataclass(frozen=True)
class Transcriber:
    """A loaded artifact, ready to transcribe; close it, or use it in ``with``."""

    artifact: Path
    manifest: Manifest
    contract: Contract
    settings: Any
    alphabet: Tokens
    package: Predicts
    decoder: Decoder

    @property
    def sample_rate(self) -> int:
        """Samples a second that the artifact takes."""
        rate: int = self.settings.sample_rate
        return rate

    def windows(self, samples: Array) -> Array:
        """The model's input (steps, ...) of samples, float32 in [-1, 1] or int16.

        MFCC have the shape (steps, window, coefficients); a package that takes samples, (samples,).
        """
        return kinds.compute(self.scaled(samples), self.settings)

    def scaled(self, samples: Array) -> Array:
        """Samples as the front end reads them: int16, times the manifest's scale."""
        pcm = samples if samples.dtype == np.int16 else to_int16(samples)
        return pcm.astype(np.float32) * np.float32(self.manifest.audio.sample_scale)

    def probabilities(self, samples: Array) -> Probabilities:
        """Computes the probabilities of samples, without decoding."""
        return acoustic(self.package, self.contract, self.windows(samples))

    def transcribe(
        self,
        samples: Array,
        on_partial: Callable[[str], None] | None = None,
        n_best: int = 1,
    ) -> Transcription:
        """Transcribes samples; calls ``on_partial`` with the text so far each time it changes."""
        utterance = Utterance(self, on_partial)
        utterance.push(samples)
        return utterance.finish(n_best)

    def transcribe_file(
        self,
        file: str | Path,
        on_partial: Callable[[str], None] | None = None,
        n_best: int = 1,
    ) -> Transcription:
        """Transcribes a recording (WAV, FLAC, OGG, MP3; any rate, any number of channels).

        ``demo:sample.wav`` is a file that comes with asrbuild.

        Raises:
            AsrbuildError: the recording cannot be read.
        """
        samples = read_audio(resolve_file(str(file)), self.sample_rate)
        return self.transcribe(samples, on_partial, n_best)

    def close(self) -> None:
        """Ends the decoder's processes, if it has any."""
        self.decoder.close()

    def __enter__(self) -> Transcriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Utterance:
    """The live transcription of one recording, from samples that arrive in pieces.

    ``on_partial`` is called with the text so far each time it changes.
    """

    def __init__(
        self, transcriber: Transcriber, on_partial: Callable[[str], None] | None = None
    ) -> None:
        self._transcriber = transcriber
        self._on_partial = on_partial
        self._features = kinds.open_stream(transcriber.settings)
        self._acoustic = Acoustic(transcriber.package, transcriber.contract)
        self._decoding = transcriber.decoder.stream()
        self._text = ""
        self._samples = 0
        self._acoustic_s = 0.0
        self._decoder_s = 0.0

    def push(self, samples: Array) -> str:
        """Takes more samples, float32 in [-1, 1] or int16; returns the text so far."""
        self._samples += len(samples)
        self._feed(self._features.push(self._transcriber.scaled(samples)))
        return self._text

    def finish(self, n_best: int = 1) -> Transcription:
        """Ends the recording: runs the waiting steps, and returns the transcription."""
        self._feed(self._features.finish())
        rows, seconds = timed(self._acoustic.finish)
        self._acoustic_s += seconds
        self._decode(rows)
        hypotheses, seconds = timed(self._decoding.finish, n_best)
        self._decoder_s += seconds
        return Transcription(
            tuple(hypotheses),
            audio_s=self._samples / self._transcriber.sample_rate,
            acoustic_s=self._acoustic_s,
            decoder_s=self._decoder_s,
        )

    def _feed(self, windows: Array) -> None:
        piece = self._transcriber.contract.streaming.steps_per_chunk or max(len(windows), 1)
        for at in range(0, len(windows), piece):
            rows, seconds = timed(self._acoustic.feed, windows[at : at + piece])
            self._acoustic_s += seconds
            self._decode(rows)

    def _decode(self, rows: Array) -> None:
        for at in range(0, len(rows), PARTIAL_STEPS):
            text, seconds = timed(self._decoding.feed, rows[at : at + PARTIAL_STEPS])
            self._decoder_s += seconds
            if text != self._text:
                self._text = text
                if self._on_partial is not None:
                    self._on_partial(text)


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result of ``work``, and its seconds."""
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def open_artifact(
    artifact: str | Path,
    decoder: DecoderSettings | None = None,
    function: str | None = None,
    manifest: Manifest | None = None,
) -> Transcriber:
    """Loads an artifact directory.

    Args:
        decoder: settings that replace the manifest's decoder.
        function: a function of a multifunction package; None: the manifest's default.
        manifest: that of a package before its publication; None: read from the directory.

    Raises:
        AsrbuildError: the manifest, the package or the decoder cannot be used.
    """
    artifact = Path(artifact)
    if manifest is None:
        manifest = read_manifest(artifact)
    if function is not None:
        manifest = with_function(manifest, function)
    package = load_package(artifact, manifest)
    contract, settings = Contract.of(manifest), feature_settings(manifest)
    alphabet = manifest2.tokens_of(manifest.decoder)
    _check_fit(contract, settings, alphabet, manifest.decoder.blank_index)
    return Transcriber(
        artifact,
        manifest,
        contract,
        settings,
        alphabet,
        package,
        open_decoder(
            decoder or decoder_settings(manifest), alphabet, manifest2.row_ms(manifest), artifact
        ),
    )


def load_package(artifact: Path, manifest: Manifest) -> Predicts:
    """Loads the package of an artifact, with its default function.

    Raises:
        AsrbuildError: the package is missing, or the executor cannot run it.
    """
    from asrbuild.coreai import asset
    from asrbuild.coreml import executor

    path = package_path(artifact, manifest)
    if not path.exists():
        raise AsrbuildError(
            f"the artifact lacks its package {manifest.model.package}",
            file=artifact,
            fix="check it with `asrbuild verify`, or build it again",
        )
    function = manifest.model.default_function if len(manifest.model.functions) > 1 else None
    if manifest.model.format == ASSET:
        return asset.load(path, function)
    return executor.load(path, function=function)


def transcribe(
    artifact: str | Path,
    samples: Array,
    on_partial: Callable[[str], None] | None = None,
    n_best: int = 1,
) -> Transcription:
    """Transcribes samples, float32 in [-1, 1] or int16, at the artifact's rate."""
    with open_artifact(artifact) as transcriber:
        return transcriber.transcribe(samples, on_partial, n_best)


def feature_settings(manifest: Manifest) -> Any:
    """The manifest's ``audio`` and ``features`` as settings of asrbuild's features.

    The kind ``none`` gives those of samples; see :mod:`asrbuild.speech.features.kinds`.
    """
    section: Any = manifest.features
    rate = manifest.audio.sample_rate
    if section.kind == "none" or getattr(section, "place", "app") == "package":
        return kinds.Samples(rate)
    if not isinstance(section, Features):
        return kinds.make_settings(section.kind, **section.settings)
    settings = FeatureSettings(
        sample_rate=manifest.audio.sample_rate,
        window=section.window_samples,
        stride=section.step_samples,
        n_mels=section.mel_bands,
        lower_hz=section.lower_hz,
        upper_hz=section.upper_hz,
        n_input=section.coefficients,
        log_floor=section.log_floor,
        n_context=section.context_frames,
    )
    if settings.fft_size != section.fft_size:
        raise AsrbuildError(
            f"the manifest asks for an FFT of {section.fft_size} points, a window of "
            f"{section.window_samples} samples makes {settings.fft_size}",
            key="features.fft_size",
        )
    return settings


def decoder_settings(manifest: Manifest) -> DecoderSettings:
    """The manifest's ``decoder`` section as settings of asrbuild's decoders."""
    section = manifest.decoder
    return DecoderSettings(
        type=section.type,
        beam_width=section.beam_width,
        cutoff_prob=section.cutoff_prob,
        cutoff_top_n=section.cutoff_top_n,
        scorer=Path(section.scorer.path) if section.scorer else None,
        lm_alpha=section.scorer.lm_alpha if section.scorer else None,
        lm_beta=section.scorer.lm_beta if section.scorer else None,
        hot_words=dict(section.hot_words),
    )


def _check_fit(
    contract: Contract, settings: Any, alphabet: Tokens, blank_index: int | None
) -> None:
    """Raises if sections of the manifest contradict each other."""
    parts: dict[str, tuple[Any, Any]] = {
        "decoder.blank_index": (blank_index, alphabet.blank),
        "decoder.alphabet": (alphabet.classes, contract.classes),
    }
    if isinstance(settings, FeatureSettings):
        window = tuple(axis.default for axis in contract.features.shape[2:])
        # Frames without context may lack the axis for it.
        alone = settings.n_window == 1 and len(window) == 1
        made = (settings.n_input,) if alone else (settings.n_window, settings.n_input)
        parts["features"] = (window, made)
    for key, (value, expected) in parts.items():
        if value != expected:
            raise AsrbuildError(
                f"the manifest contradicts itself: {key} gives {value}, the rest {expected}",
                key=key,
            )
    chunk = contract.streaming.steps_per_chunk
    if chunk is not None and chunk <= contract.around:
        raise AsrbuildError(
            f"a call of {chunk} steps has nothing new next to its context of {contract.around}",
            key="streaming.steps_per_chunk",
        )
    if chunk is not None and call_size(chunk, contract.steps) != chunk:
        raise AsrbuildError(
            f"the package takes no call of {chunk} steps", key="streaming.steps_per_chunk"
        )
