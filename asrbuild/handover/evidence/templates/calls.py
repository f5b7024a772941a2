"""The calls of a package with one recording, as the conformance kit lists them; numpy alone."""

from __future__ import annotations

import time
import wave
from pathlib import Path
from typing import Any

import numpy as np

#: Meanings of the output that is decoded.
DECODED = ("probabilities", "log_probabilities", "logits")


class Runner:
    """The package, loaded by Core ML for one set of units."""

    def __init__(self, model: Any, manifest: dict[str, Any], function: dict[str, Any]) -> None:
        inputs, outputs = function["inputs"], function["outputs"]
        self.model = model
        (self.fed,) = (one for one in inputs if one["meaning"] in ("features", "samples"))
        self.bounds = [one for one in inputs if one["meaning"] in ("step_count", "step_range")]
        (self.decoded,) = (one for one in outputs if one["meaning"] in DECODED)
        # Manifests 1.x have neither: a row for every step.
        self.steps_of_row = manifest.get("rows", {"steps": 1})["steps"]
        self.trimmed = manifest.get("context", {"trimmed": False})["trimmed"]
        self.pairs = [pair for pair in manifest["state"] if pair["kind"] == "explicit"]
        self.stateful = any(pair["kind"] == "stateful" for pair in manifest["state"])

    def run(self, vectors: Vectors) -> tuple[list[float], Any]:
        """One pass of a recording: milliseconds of each call, and its rows (rows, classes)."""
        carried = dict(vectors.states)
        kept = self.model.make_state() if self.stateful else None
        classes = max(2, self.decoded["shape"][-1]["default"])
        times, rows = [], [np.zeros((0, classes), np.float32)]
        for call in vectors.calls:
            data = {**self.inputs(call, vectors.steps), **carried}
            start = time.perf_counter()
            answer = self.model.predict(data, kept) if self.stateful else self.model.predict(data)
            times.append(1000 * (time.perf_counter() - start))
            for pair in self.pairs:
                value = np.asarray(answer[pair["output"]], np.float32)
                carried[pair["input"]] = value.reshape(pair["shape"])
            rows.append(self.kept_rows(call, np.asarray(answer[self.decoded["name"]], np.float32)))
        return times, np.concatenate(rows)

    def inputs(self, call: dict[str, Any], steps: Any) -> dict[str, Any]:
        """The inputs of a call without its states: zeros stand for steps that do not exist."""
        first, size = call["first"], call["size"]
        begin, end = max(0, -first), min(len(steps) - first, size)
        real = max(begin, min(call["steps"], end))
        padded = np.zeros((size, *steps.shape[1:]), np.float32)
        padded[begin:real] = steps[first + begin : first + real]
        at = time_axis(self.fed, 1)
        shape = [axis["default"] for axis in self.fed["shape"]]
        shape[at] = size
        data = {self.fed["name"]: np.moveaxis(padded, 0, max(at - 1, 0)).reshape(shape)}
        for one in self.bounds:
            value = [begin, end] if one["meaning"] == "step_range" else call["steps"]
            shape = [axis["default"] for axis in one["shape"]]
            data[one["name"]] = np.broadcast_to(np.array(value, one["dtype"]), shape).copy()
        return data

    def kept_rows(self, call: dict[str, Any], found: Any) -> Any:
        """The probabilities (rows, classes) of a call that no other call gives."""
        width = self.decoded["shape"][-1]["default"]
        moved = np.moveaxis(found, time_axis(self.decoded, 0), 0).reshape(-1, width)
        first = call.get("first_row", call["first"])
        # A package that trims its context gives no rows before those that are kept.
        before = 0 if self.trimmed else first - call["first"] // self.steps_of_row
        kept = moved[before : before + call.get("rows", call["steps"])]
        return to_probabilities(kept, self.decoded["meaning"])


class Vectors:
    """One recording of the conformance kit: its steps (n, ...), its calls and its first states."""

    def __init__(
        self,
        measured: Path,
        recording: dict[str, Any],
        book: dict[str, Any],
        manifest: dict[str, Any],
    ) -> None:
        folder = measured / "conformance" / recording["name"]
        self.calls = recording["calls"]
        files = {step["name"]: folder / step["file"] for step in book["steps"]}
        array = files.get("windows") or files.get("features")
        if array is not None:
            self.steps = np.load(array)
        elif recording["samples"]:
            with wave.open(str(folder / "audio.wav")) as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
            scale = np.float32(manifest["audio"]["sample_scale"])
            self.steps = samples.astype(np.float32) * scale
        else:
            self.steps = np.zeros(0, np.float32)
        inputs = [pair["input"] for pair in manifest["state"] if pair["kind"] == "explicit"]
        self.states = {name: np.load(files[name])[0] for name in inputs} if self.calls else {}


def time_axis(tensor: dict[str, Any], otherwise: int) -> int:
    """Index of the axis of time; ``otherwise`` where no axis has the name of what it counts."""
    names = [axis.get("name") for axis in tensor["shape"]]
    found = [at for at, name in enumerate(names) if name in ("steps", "samples", "rows")]
    return found[0] if found else otherwise


def to_probabilities(rows: Any, meaning: str) -> Any:
    """Float32 probabilities of an output (rows, classes); a single number is one class of two."""
    if meaning == "probabilities" and rows.shape[-1] > 1:
        return rows
    wide = rows.astype(np.float64)
    if meaning == "logits" and rows.shape[-1] > 1:
        wide = wide - wide.max(axis=-1, keepdims=True, initial=-np.inf)
    found = wide if meaning == "probabilities" else np.exp(np.minimum(wide, 80))
    if rows.shape[-1] == 1:
        found = found / (1 + found) if meaning == "logits" else found
        found = np.concatenate([found, 1 - found], axis=-1)
    elif meaning == "logits":
        found = found / found.sum(axis=-1, keepdims=True)
    return found.astype(np.float32)
