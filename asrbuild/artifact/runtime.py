"""Run an artifact: samples to features, probabilities and words, as its manifest specifies.

Nothing here knows a recipe, TensorFlow or coremltools. A package takes steps in calls of certain
sizes; ``Acoustic`` cuts an utterance into such calls, carries the state from one to the next, pads
the last one with zeros and keeps only the rows of real steps, so that no step is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from asrbuild.artifact.manifest import (
    Axis,
    Features,
    Manifest,
    Model,
    State,
    Streaming,
    Tensor,
    package_path,
    read_manifest,
    with_function,
)
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet, make_alphabet
from asrbuild.speech.audio import to_int16
from asrbuild.speech.decoder import Decoder, Hypothesis
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.mfcc import FeatureSettings, FeatureStream, features

#: A package that takes an utterance whole is decoded in pieces of this many steps, so that words
#: still appear one after the other.
PARTIAL_STEPS = 16


class Package(Protocol):
    """What runs a package: ``asrbuild.coreml.executor`` or Core ML."""

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Array]: ...

    def make_state(self) -> Any: ...


@dataclass(frozen=True)
class Contract:
    """The manifest sections that say how a package is fed."""

    model: Model
    state: tuple[State, ...]
    streaming: Streaming

    @classmethod
    def of(cls, manifest: Manifest) -> Contract:
        return cls(manifest.model, tuple(manifest.state), manifest.streaming)

    @property
    def features(self) -> Tensor:
        """The input (1, steps, window, coefficients)."""
        return _only(self.model.inputs, "features")

    @property
    def steps(self) -> Axis:
        """The axis of the steps."""
        return self.features.shape[1]

    @property
    def stateful(self) -> bool:
        return any(pair.kind == "stateful" for pair in self.state)


@dataclass(frozen=True)
class Probabilities:
    """What an utterance gave: (steps, classes), and the state after its last step by output name.

    ``state`` is empty where the package keeps it to itself.
    """

    probabilities: Array
    state: dict[str, Array]


def call_size(steps: int, axis: Axis) -> int:
    """The smallest size of a call that ``steps`` real steps fit in.

    Raises:
        AsrbuildError: the package takes no such call.
    """
    sizes = axis.enumerated if axis.enumerated is not None else [max(steps, axis.min)]
    fitting = [size for size in sizes if size >= steps]
    if not fitting or (axis.max is not None and min(fitting) > axis.max):
        raise AsrbuildError(
            f"{steps} steps do not fit in one call of the package: it takes at most "
            f"{max(axis.enumerated) if axis.enumerated else axis.max}"
        )
    return min(fitting)


class Acoustic:
    """One utterance through a package, call by call."""

    def __init__(self, package: Package, contract: Contract) -> None:
        self._package = package
        self._contract = contract
        self._waiting = np.zeros((0, *_fixed(contract.features)[2:]), np.float32)
        self._explicit = {
            pair.input: np.zeros(pair.shape, np.float32)
            for pair in contract.state
            if pair.kind == "explicit"
        }
        self._kept = package.make_state() if contract.stateful else None

    def feed(self, windows: Array) -> Array:
        """Takes (k, window, coefficients); the rows (n, classes) of the full calls it made."""
        self._waiting = np.concatenate([self._waiting, windows])
        size = self._contract.streaming.steps_per_chunk
        if size is None:
            return self._none()
        # In whole mode the last full chunk may still be part of one call that takes all.
        least = size if self._contract.streaming.mode == "chunked" else size + 1
        rows = [self._none()]
        while len(self._waiting) >= least:
            rows.append(self._call(self._waiting[:size], size))
            self._waiting = self._waiting[size:]
        return np.concatenate(rows)

    def finish(self) -> Array:
        """The rows (n, classes) of the steps that were still waiting for a full call."""
        waiting, self._waiting = self._waiting, self._waiting[:0]
        if not len(waiting):
            return self._none()
        return self._call(waiting, call_size(len(waiting), self._contract.steps))

    @property
    def state(self) -> dict[str, Array]:
        """The state after the last step, by output name; see ``Probabilities``."""
        pairs = self._contract.state
        return {p.output: self._explicit[p.input] for p in pairs if p.kind == "explicit"}

    def _call(self, windows: Array, size: int) -> Array:
        real = len(windows)
        padded = np.zeros((1, size, *windows.shape[1:]), np.float32)
        padded[0, :real] = windows
        data = {self._contract.features.name: padded, **self._explicit}
        for tensor in self._contract.model.inputs:
            if tensor.meaning == "step_count":
                data[tensor.name] = np.full(_fixed(tensor), real, tensor.dtype)
        outputs = (
            self._package.predict(data, self._kept)
            if self._contract.stateful
            else self._package.predict(data)
        )
        for pair in self._contract.state:
            if pair.kind == "explicit":
                found = np.asarray(_output(outputs, pair.output), np.float32)
                self._explicit[pair.input] = found.reshape(pair.shape)
        name = _only(self._contract.model.outputs, "probabilities").name
        rows = np.asarray(_output(outputs, name), np.float32)
        if rows.shape[0] != size:
            raise AsrbuildError(
                f"the package gave {name} {rows.shape} for {size} steps; steps must come first"
            )
        return rows.reshape(size, -1)[:real]

    def _none(self) -> Array:
        return np.zeros((0, self._classes), np.float32)

    @property
    def _classes(self) -> int:
        return _only(self._contract.model.outputs, "probabilities").shape[-1].default


def acoustic(package: Package, contract: Contract, windows: Array) -> Probabilities:
    """One utterance (steps, window, coefficients), fed as the manifest says."""
    run = Acoustic(package, contract)
    rows = np.concatenate([run.feed(windows), run.finish()])
    return Probabilities(rows, run.state)


@dataclass(frozen=True)
class Transcription:
    """Words of one recording, best first, and what they cost in seconds."""

    hypotheses: tuple[Hypothesis, ...]
    audio_s: float
    acoustic_s: float
    decoder_s: float

    @property
    def text(self) -> str:
        return self.hypotheses[0].text

    @property
    def real_time_factor(self) -> float:
        return (self.acoustic_s + self.decoder_s) / self.audio_s if self.audio_s else 0.0


@dataclass(frozen=True)
class Transcriber:
    """An artifact, loaded: its package, features and decoder. Close it, or use it in ``with``."""

    artifact: Path
    manifest: Manifest
    contract: Contract
    settings: FeatureSettings
    alphabet: Alphabet
    package: Package
    decoder: Decoder

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    def windows(self, samples: Array) -> Array:
        """Samples, float32 in [-1, 1] or int16, to model input (steps, window, coefficients)."""
        return features(self.scaled(samples), self.settings)

    def scaled(self, samples: Array) -> Array:
        """Samples as the front end takes them: int16, times the manifest's scale."""
        pcm = samples if samples.dtype == np.int16 else to_int16(samples)
        return pcm.astype(np.float32) * np.float32(self.manifest.audio.sample_scale)

    def probabilities(self, samples: Array) -> Probabilities:
        """Samples to probabilities, without decoding."""
        return acoustic(self.package, self.contract, self.windows(samples))

    def transcribe(
        self,
        samples: Array,
        on_partial: Callable[[str], None] | None = None,
        n_best: int = 1,
    ) -> Transcription:
        """Samples to words; ``on_partial`` is given the text so far each time it changes."""
        utterance = Utterance(self, on_partial)
        utterance.push(samples)
        return utterance.finish(n_best)

    def close(self) -> None:
        """Ends the decoder's processes, if it has any."""
        self.decoder.close()

    def __enter__(self) -> Transcriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Utterance:
    """One recording that may still be going on: samples in, words so far out.

    ``on_partial`` is given the text so far each time it changes.
    """

    def __init__(
        self, transcriber: Transcriber, on_partial: Callable[[str], None] | None = None
    ) -> None:
        self._transcriber = transcriber
        self._on_partial = on_partial
        self._features = FeatureStream(transcriber.settings)
        self._acoustic = Acoustic(transcriber.package, transcriber.contract)
        self._decoding = transcriber.decoder.stream()
        self._text = ""
        self._samples = 0
        self._acoustic_s = 0.0
        self._decoder_s = 0.0

    def push(self, samples: Array) -> str:
        """Takes more samples, float32 in [-1, 1] or int16; the text so far."""
        self._samples += len(samples)
        self._feed(self._features.push(self._transcriber.scaled(samples)))
        return self._text

    def finish(self, n_best: int = 1) -> Transcription:
        """The recording is over: runs what was still waiting."""
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
    """The result, and the seconds it took."""
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
        decoder: replaces the manifest's settings of the decoder.
        function: which function of a multifunction package; the manifest's default if not given.
        manifest: of a package that is in no artifact yet; None: read from the directory.

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
    alphabet = make_alphabet(manifest.decoder.alphabet, bytes_output=manifest.decoder.utf8)
    _check_fit(contract, settings, alphabet, manifest.decoder.blank_index)
    return Transcriber(
        artifact,
        manifest,
        contract,
        settings,
        alphabet,
        package,
        open_decoder(
            decoder or decoder_settings(manifest), alphabet, manifest.features.step_ms, artifact
        ),
    )


def load_package(artifact: Path, manifest: Manifest) -> Package:
    """The package of an artifact, its default function where it has several.

    Raises:
        AsrbuildError: it is missing, or no package that the executor runs.
    """
    from asrbuild.coreml import executor

    path = package_path(artifact, manifest)
    if not path.exists():
        raise AsrbuildError(
            f"the artifact lacks its package {manifest.model.package}",
            file=artifact,
            fix="check it with `asrbuild verify`, or build it again",
        )
    function = manifest.model.default_function if len(manifest.model.functions) > 1 else None
    return executor.load(path, function=function)


def transcribe(
    artifact: str | Path,
    samples: Array,
    on_partial: Callable[[str], None] | None = None,
    n_best: int = 1,
) -> Transcription:
    """One recording through an artifact: float32 in [-1, 1] or int16, at the artifact's rate."""
    with open_artifact(artifact) as transcriber:
        return transcriber.transcribe(samples, on_partial, n_best)


def feature_settings(manifest: Manifest) -> FeatureSettings:
    """The manifest's ``audio`` and ``features`` as settings of our front end."""
    section: Features = manifest.features
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
    """The manifest's ``decoder`` section as settings of our decoders."""
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
    contract: Contract, settings: FeatureSettings, alphabet: Alphabet, blank_index: int
) -> None:
    """The sections of the manifest must describe one model."""
    window = tuple(axis.default for axis in contract.features.shape[2:])
    classes = _only(contract.model.outputs, "probabilities").shape[-1].default
    parts = {
        "features": (window, (settings.n_window, settings.n_input)),
        "decoder.blank_index": (blank_index, alphabet.blank),
        "decoder.alphabet": (alphabet.size + 1, classes),
    }
    for key, (value, expected) in parts.items():
        if value != expected:
            raise AsrbuildError(
                f"the manifest contradicts itself: {key} gives {value}, the rest {expected}",
                key=key,
            )
    chunk = contract.streaming.steps_per_chunk
    if chunk is not None and call_size(chunk, contract.steps) != chunk:
        raise AsrbuildError(
            f"the package takes no call of {chunk} steps", key="streaming.steps_per_chunk"
        )


def _only(tensors: Sequence[Tensor], meaning: str) -> Tensor:
    found = [tensor for tensor in tensors if tensor.meaning == meaning]
    if len(found) != 1:
        raise AsrbuildError(
            f"the manifest names {len(found)} tensors that mean {meaning}, expected one",
            key="model",
        )
    return found[0]


def _fixed(tensor: Tensor) -> tuple[int, ...]:
    return tuple(axis.default for axis in tensor.shape)


def _output(outputs: Mapping[str, Array], name: str) -> Array:
    if name not in outputs:
        raise AsrbuildError(
            f"the package has no output {name}", fix=f"it has {', '.join(sorted(outputs))}"
        )
    return outputs[name]
