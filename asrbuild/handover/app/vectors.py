"""The vectors of the conformance kit: a package's results for recordings, before the decoder.

The kit is written from them, see :mod:`asrbuild.handover.app.conformance`.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact import manifest2
from asrbuild.artifact.calls import Acoustic, Contract, Predicts
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.named_files import file_of
from asrbuild.artifact.runtime import feature_settings, load_package
from asrbuild.base.array import Array
from asrbuild.base.file_names import file_names
from asrbuild.base.places import resolve_file
from asrbuild.coreml.executor.lockstep import in_lockstep
from asrbuild.coreml.executor.products import sharing
from asrbuild.coreml.executor.threads import one_thread
from asrbuild.speech.audio import read_audio, to_int16
from asrbuild.speech.features import kinds
from asrbuild.speech.mfcc import FeatureSettings, context_windows, mfcc

_RECORDING = "demo:sample.wav"
#: Steps of the recording ``one_chunk`` for a package that takes whole utterances.
_WHOLE_STEPS = 16
#: Steps whose file has the name of the step, which a state's name may equal.
OTHER_STEPS = ("samples", "mfcc", "windows", "features", "probabilities")


@dataclass(frozen=True)
class Vectors:
    """A recording with the results of every step before the decoder.

    Args:
        samples: int16 (n,) at the artifact's rate.
        steps: number of steps, or of samples for a package that takes samples.
        calls: the calls of the package, as in ``steps.json``.
        arrays: name of a file without ``.npy`` -> its values.
    """

    samples: Array
    steps: int
    calls: Sequence[Mapping[str, Any]]
    arrays: Mapping[str, Array]


def save_vectors(path: Path, vectors: Mapping[str, Vectors]) -> None:
    """Writes an ``.npz`` of ``{name}/samples``, ``{name}/calls`` (JSON) and the arrays."""
    stored: dict[str, Any] = {}
    for name, own in vectors.items():
        stored[f"{name}/samples"] = own.samples
        stored[f"{name}/calls"] = np.array(json.dumps([own.steps, own.calls]))
        stored |= {f"{name}/arrays/{step}": array for step, array in own.arrays.items()}
    np.savez(path, **stored)


def load_vectors(path: Path) -> dict[str, Vectors]:
    """Reads the file of :func:`save_vectors`."""
    with np.load(path, allow_pickle=False) as stored:
        found = dict(stored)
    names = [key.removesuffix("/samples") for key in found if key.endswith("/samples")]
    vectors = {}
    for name in names:
        head = f"{name}/arrays/"
        arrays = {k.removeprefix(head): found[k] for k in found if k.startswith(head)}
        steps, calls = json.loads(found[f"{name}/calls"].item())
        vectors[name] = Vectors(found[f"{name}/samples"], steps, calls, arrays)
    return vectors


def run_package(
    folder: Path,
    manifest: Manifest,
    recordings: Mapping[str, Array],
    package: Predicts | None = None,
) -> dict[str, Vectors]:
    """Runs a package on recordings, int16 (n,) by name; returns its conformance vectors.

    Args:
        folder: the folder of the manifest's paths.
        package: the package that computes the vectors; None: the manifest's own package.

    Raises:
        AsrbuildError: the package cannot be run.
    """
    with one_thread(), sharing():
        loaded = package or load_package(folder, manifest)
        works = [partial(_record, manifest, loaded, samples) for samples in recordings.values()]
        return dict(zip(recordings, in_lockstep(works), strict=True))


def artifact_recordings(artifact: Path, manifest: Manifest) -> dict[str, Array]:
    """The recordings of an artifact's kit, from its reference recording, if it has one."""
    reference = getattr(manifest.features, "reference", None)
    if reference is None:
        return kit_recordings(manifest, None)
    audio_file = file_of(artifact, reference.audio, "features.reference.audio")
    with wave.open(str(audio_file), "rb") as file:
        return kit_recordings(manifest, np.frombuffer(file.readframes(file.getnframes()), "<i2"))


def kit_recordings(manifest: Manifest, reference: Array | None) -> dict[str, Array]:
    """The recordings of a kit, see :func:`short_recordings`.

    Args:
        reference: int16 (n,) at the artifact's rate; None: the demo's recording.
    """
    if reference is None:
        rate = manifest.audio.sample_rate
        reference = to_int16(read_audio(resolve_file(_RECORDING), rate))
    streaming = manifest.streaming
    chunk = streaming.steps_per_chunk if streaming.mode == "chunked" else None
    return short_recordings(reference, feature_settings(manifest), chunk or _WHOLE_STEPS)


def short_recordings(samples: Array, settings: FeatureSettings, chunk: int) -> dict[str, Array]:
    """The recordings of a kit, int16 (n,): whole, cut to awkward lengths, and two without speech.

    ``reference`` is the whole recording; ``one_chunk`` fills one call exactly, ``one_step`` is the
    shortest recording with a step, and ``too_short`` has no step. ``silence`` reaches the floor of
    the logarithm in one call, and ``full_scale``, a square wave of 216 Hz, both ends of the
    samples' range in two: the packages of a sweep share the rows of full calls, not of padding.
    """
    length = settings.window + (chunk - 1) * settings.stride
    cuts = {"one_chunk": length, "one_step": settings.window, "too_short": settings.window - 1}
    shorter = {name: samples[:cut] for name, cut in cuts.items() if cut < len(samples)}
    half_waves = np.arange(length + chunk * settings.stride) // (settings.sample_rate / 432)
    square = np.where(half_waves % 2 == 0, 32767, -32768).astype(np.int16)
    silence = np.zeros(length, np.int16)
    return {"reference": samples, **shorter, "silence": silence, "full_scale": square}


@dataclass
class Recorder:
    """A package that records its calls; see ``runtime.Package``."""

    package: Predicts
    contract: Contract
    given: dict[str, list[Array]] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def make_state(self) -> Any:
        return self.package.make_state()

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Array]:
        answer = self.package.predict(data, *([state] if self.contract.stateful else []))
        for pair in self.contract.state:
            if pair.kind == "explicit":
                for name, arrays in ((pair.input, data), (pair.output, answer)):
                    value = np.asarray(arrays[name], np.float32).reshape(pair.shape)
                    self.given.setdefault(name, []).append(value)
        counts = [t.name for t in self.contract.model.inputs if t.meaning == "step_count"]
        fed = self.contract.features
        size = data[fed.name].shape[manifest2.time_axis(fed, 1)]
        real = int(np.ravel(data[counts[0]])[0]) if counts else size
        before = self.calls[-1] if self.calls else {"first": 0, "steps": 0}
        first = before["first"] + before["steps"]
        self.calls.append({"first": first, "steps": real, "size": size, "state_valid": True})
        return answer


class _Placed(Acoustic):
    """An utterance that records the place and the rows of each call."""

    def __init__(self, package: Predicts, contract: Contract) -> None:
        super().__init__(package, contract)
        self.calls: list[dict[str, Any]] = []
        self._taken = 0

    def feed(self, windows: Array) -> Array:
        self._taken += len(windows)
        return super().feed(windows)

    def finish(self) -> Array:
        if self._contract.context.trimmed:
            self._taken += self._contract.context.right
        return super().finish()

    def _call(self, windows: Array, size: int) -> Array:
        first = self._taken - len(self._waiting)
        self.calls.append({"first": first, "steps": len(windows), "size": size})
        return super()._call(windows, size)

    def _next(self, size: int) -> Array:
        rows = super()._next(size)
        self._gave(len(rows))
        return rows

    def _gave(self, rows: int) -> None:
        first = sum(call["rows"] for call in self.calls[:-1])
        self.calls[-1] |= {"first_row": first, "rows": rows, "state_valid": True}

    def rows(self, fed: Array) -> Array:
        """Runs a whole utterance and returns its rows; sets ``first_row`` and ``rows`` of calls."""
        made = np.concatenate([self.feed(fed), self.finish()])
        if self.calls and "rows" not in self.calls[-1]:
            self._gave(len(made) - sum(call["rows"] for call in self.calls[:-1]))
        return made


def _record(manifest: Manifest, package: Predicts, samples: Array) -> Vectors:
    """Runs one recording through every step before the decoder."""
    settings, contract = feature_settings(manifest), Contract.of(manifest)
    scaled = samples.astype(np.float32) * np.float32(manifest.audio.sample_scale)
    recorder = Recorder(package, contract)
    if isinstance(manifest, manifest2.Manifest):
        fed = kinds.compute(scaled, settings)
        placed = _Placed(recorder, contract)
        rows, calls, steps = placed.rows(fed), placed.calls, len(fed)
        arrays = {"probabilities": rows} | ({"features": fed} if fed.ndim > 1 else {})
    else:
        frames = mfcc(scaled, settings)
        windows = context_windows(frames, settings.n_context)
        run = Acoustic(recorder, contract)
        rows = np.concatenate([run.feed(windows), run.finish()])
        calls, steps = recorder.calls, len(frames)
        arrays = {"mfcc": frames, "windows": windows, "probabilities": rows}
    files = state_files(manifest)
    for pair in contract.state:
        if pair.kind == "explicit":
            for name in (pair.input, pair.output):
                empty = np.zeros((0, *pair.shape), np.float32)
                arrays[files[name]] = np.stack(recorder.given[name]) if recorder.calls else empty
    return Vectors(samples, steps, calls, arrays)


def state_files(manifest: Manifest) -> dict[str, str]:
    """Name of a state's input or output -> its file in a recording's folder, without ``.npy``.

    ``file_names`` gives the name, which differs from the file of any other step.
    """
    explicit = [pair for pair in manifest.state if pair.kind == "explicit"]
    names = [name for pair in explicit for name in (pair.input, pair.output)]
    taken = {step.casefold() for step in OTHER_STEPS}
    return {
        name: f"state%20{file}" if file.casefold() in taken else file
        for name, file in file_names(names).items()
    }
