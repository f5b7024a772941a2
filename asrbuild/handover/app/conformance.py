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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact import manifest2
from asrbuild.artifact.layout import CONFORMANCE_KIT
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.manifest2 import tokens_of
from asrbuild.artifact.runtime import feature_settings
from asrbuild.handover.app.vectors import Vectors, state_files
from asrbuild.proof.gates import gates_from
from asrbuild.speech.audio import wav_bytes
from asrbuild.speech.features import kinds
from asrbuild.speech.greedy import GreedyDecoder

FORMAT, FORMAT_2 = "asrbuild-conformance/1", "asrbuild-conformance/2"
#: Tolerance of features without a reference vector: single precision against single precision.
FEATURE_TOLERANCE = 1e-3
STEPS = "steps.json"
KIT = Path(__file__).parent / "templates" / CONFORMANCE_KIT


def write_conformance(directory: Path, manifest: Manifest, vectors: Mapping[str, Vectors]) -> None:
    """Writes the kit into ``directory``, which must not exist.

    Args:
        manifest: the artifact's manifest; the tolerances are the gates of its proof.
        vectors: name of a recording -> the results of its package.
    """
    directory.mkdir(parents=True)
    book = {
        "format": FORMAT_2 if isinstance(manifest, manifest2.Manifest) else FORMAT,
        "artifact": manifest.artifact_id,
        "precision": manifest.model.compute_precision,
        "decoder": "greedy",
        "steps": _steps(manifest),
        "recordings": [
            {"name": name, **_write_recording(directory / name, manifest, own)}
            for name, own in vectors.items()
        ],
    }
    text = json.dumps(book, indent=2, ensure_ascii=False) + "\n"
    (directory / STEPS).write_text(text, encoding="utf-8", newline="\n")
    for name in ("check.py", "README.md"):
        shutil.copyfile(KIT / name, directory / name)


def _write_recording(folder: Path, manifest: Manifest, own: Vectors) -> dict[str, Any]:
    """Writes a recording and its arrays; returns its entry of ``steps.json``."""
    folder.mkdir()
    rate = feature_settings(manifest).sample_rate
    (folder / "audio.wav").write_bytes(wav_bytes(own.samples, rate))
    for name, array in own.arrays.items():
        np.save(folder / f"{name}.npy", array.astype("<f4"), allow_pickle=False)
    decoder = GreedyDecoder(tokens_of(manifest.decoder), manifest2.row_ms(manifest) / 1000)
    utterance = decoder.decode(own.arrays["probabilities"])[0]
    return {
        "samples": len(own.samples),
        "samples_sha256": hashlib.sha256(own.samples.astype("<i2").tobytes()).hexdigest(),
        "steps": own.steps,
        "calls": own.calls,
        "text": utterance.text,
        "words": [asdict(word) for word in utterance.words],
        "audio": f"{folder.name}/audio.wav",
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
