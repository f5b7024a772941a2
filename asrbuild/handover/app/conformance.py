"""The conformance kit: the results of every step from samples to words, for any runtime.

    conformance/
      steps.json               the steps, their tolerances and why;
                               the recordings with their calls and words
      README.md                what a runtime writes to be checked
      check.py                 compares a runtime's results with these, numpy alone
      <recording>/audio.wav    int16 mono
      <recording>/mfcc.npy     (steps, coefficients)
      <recording>/windows.npy  (steps, 2 * context + 1, coefficients): the package's input
      <recording>/<input>.npy  (calls, ...) the state that each call takes; its name as
                               ``file_names`` writes it
      <recording>/<output>.npy (calls, ...) the state that each call returns
      <recording>/probabilities.npy  (steps, classes)

An artifact with manifest 2.0 has ``features.npy`` instead of the two files of MFCC: the package's
input, steps first; a package that takes samples has none. ``probabilities.npy`` has a row for each
output row, and each call in ``steps.json`` has the range of its rows.

All arrays are float32, little-endian. The numbers are those of the package itself, run by
asrbuild's executor.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact import manifest2
from asrbuild.artifact.calls import Acoustic, Contract, Predicts
from asrbuild.artifact.layout import CONFORMANCE_KIT
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.manifest2 import tokens_of
from asrbuild.artifact.runtime import feature_settings
from asrbuild.base.array import Array
from asrbuild.base.file_names import file_names
from asrbuild.coreml.executor.lockstep import in_lockstep
from asrbuild.proof.gates import gates_from
from asrbuild.speech.audio import wav_bytes
from asrbuild.speech.features import kinds
from asrbuild.speech.greedy import GreedyDecoder
from asrbuild.speech.mfcc import FeatureSettings, context_windows, mfcc

#: A recording's entry in ``steps.json``.
CaseFields = dict[str, Any]
FORMAT, FORMAT_2 = "asrbuild-conformance/1", "asrbuild-conformance/2"
#: Tolerance of features without a reference vector: single precision against single precision.
FEATURE_TOLERANCE = 1e-3
STEPS = "steps.json"
KIT = Path(__file__).parent / "templates" / CONFORMANCE_KIT
#: Steps whose file has the name of the step, which a state's name may equal.
OTHER_STEPS = ("samples", "mfcc", "windows", "features", "probabilities")


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


def short_recordings(samples: Array, settings: FeatureSettings, chunk: int) -> dict[str, Any]:
    """The recordings of a kit, int16 (n,): whole, cut to awkward lengths, and two without speech.

    ``reference`` is the whole recording; ``one_chunk`` fills one call exactly, ``one_step`` is the
    shortest recording with a step, and ``too_short`` has no step. ``silence`` reaches the floor of
    the logarithm, and ``full_scale``, a square wave of 216 Hz, both ends of the samples' range;
    both are a step longer than a call.
    """
    length = settings.window + (chunk - 1) * settings.stride
    cuts = {"one_chunk": length, "one_step": settings.window, "too_short": settings.window - 1}
    shorter = {name: samples[:cut] for name, cut in cuts.items() if cut < len(samples)}
    longer = np.arange(length + settings.stride)
    half = settings.sample_rate / 432
    square = np.where(longer // half % 2 == 0, 32767, -32768).astype(np.int16)
    silence = np.zeros(len(longer), np.int16)
    return {"reference": samples, **shorter, "silence": silence, "full_scale": square}


def write_conformance(
    directory: Path,
    manifest: Manifest,
    package: Predicts,
    recordings: Mapping[str, Array],
) -> None:
    """Writes the kit into ``directory``, which must not exist.

    Args:
        manifest: the artifact's manifest; the tolerances are the gates of its proof.
        package: the loaded package.
        recordings: name -> int16 samples (n,) at the artifact's rate.
    """
    directory.mkdir(parents=True)
    works = [
        partial(_record, directory / name, manifest, package, samples)
        for name, samples in recordings.items()
    ]
    entries = [
        entry | {"name": name, "audio": f"{name}/audio.wav"}
        for name, entry in zip(recordings, in_lockstep(works), strict=True)
    ]
    book = {
        "format": FORMAT_2 if isinstance(manifest, manifest2.Manifest) else FORMAT,
        "artifact": manifest.artifact_id,
        "precision": manifest.model.compute_precision,
        "decoder": "greedy",
        "steps": _steps(manifest),
        "recordings": [{"name": entry.pop("name"), **entry} for entry in entries],
    }
    text = json.dumps(book, indent=2, ensure_ascii=False) + "\n"
    (directory / STEPS).write_text(text, encoding="utf-8", newline="\n")
    for name in ("check.py", "README.md"):
        shutil.copyfile(KIT / name, directory / name)


def _record(folder: Path, manifest: Manifest, package: Predicts, samples: Array) -> CaseFields:
    """Runs one recording, writes its arrays and returns its entry of ``steps.json``."""
    settings, contract = feature_settings(manifest), Contract.of(manifest)
    folder.mkdir()
    (folder / "audio.wav").write_bytes(wav_bytes(samples, settings.sample_rate))
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
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype("<f4"), allow_pickle=False)
    alphabet = tokens_of(manifest.decoder)
    utterance = GreedyDecoder(alphabet, manifest2.row_ms(manifest) / 1000).decode(rows)[0]
    return {
        "samples": len(samples),
        "samples_sha256": hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest(),
        "steps": steps,
        "calls": calls,
        "text": utterance.text,
        "words": [asdict(word) for word in utterance.words],
    }


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


def _steps(manifest: Manifest) -> list[dict[str, Any]]:
    """The compared steps in order, each with its tolerance and the reason for it."""
    precision = manifest.model.compute_precision
    thresholds = manifest.provenance.recipe["verify"]["thresholds"][precision]
    gates = gates_from(thresholds, precision)
    reference = getattr(manifest.features, "reference", None)
    frames = {"max_abs_error": reference.tolerance if reference else FEATURE_TOLERANCE}
    gate = f"the gate of the artifact's proof for {precision}"
    state = {"max_abs_error_of_peak": gates.state_max_abs_error}
    half = precision == "fp16"

    def step(name: str, file: str, kind: str, why: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "file": file, "kind": kind, "why": why, **more}

    steps = [step("samples", "samples.npy", "samples", "int16 samples are read, not computed")]
    coefficients = [
        step(
            "mfcc",
            "mfcc.npy",
            "frames",
            "single precision differs in the fourth decimal; another window, band edge, floor or "
            "transform differs by whole units",
            limits=frames,
        ),
        step(
            "windows",
            "windows.npy",
            "frames",
            "the same frames with their neighbours, and zeros past both ends",
            limits=frames,
        ),
    ]
    why = "single precision differs in the fourth decimal"
    features = step("features", "features.npy", "frames", why, limits=frames)
    if not isinstance(manifest, manifest2.Manifest):
        steps += coefficients
    elif not isinstance(feature_settings(manifest), kinds.Samples):
        steps.append(features)
    steps.append(
        step(
            "calls",
            "calls.json",
            "calls",
            "first step, real steps and size after padding of a call do not depend on rounding",
        )
    )
    explicit, files = [p for p in manifest.state if p.kind == "explicit"], state_files(manifest)
    for direction, why in (("in", "zeros, then the state of the call before; "), ("out", "")):
        for pair in explicit:
            name = pair.input if direction == "in" else pair.output
            why_near = f"{why}{gate}, a share of the largest value where that is above 1"
            steps.append(
                step(
                    name, f"{files[name]}.npy", "state", why_near, direction=direction, limits=state
                )
            )
    steps += [
        step(
            "probabilities",
            "probabilities.npy",
            "probabilities",
            f"{gate}; classes as near as argmax_tie are one choice",
            limits={
                "max_abs_error": gates.max_abs_error,
                "argmax_agreement": gates.argmax_agreement,
                "argmax_tie": gates.argmax_tie,
                "kl_divergence": gates.kl_divergence,
            },
        ),
        step("text", "text.json", "text", "the transcript must be equal"),
        step(
            "words",
            "text.json",
            "words",
            "in half precision an even choice may move to the next step"
            if half
            else "steps times the hop; half of the last printed digit",
            limits={
                "time_s": manifest2.row_ms(manifest) / 1000 if half else 1e-6,
                "confidence": 0.05 if half else 1e-3,
            },
        ),
    ]
    return steps
