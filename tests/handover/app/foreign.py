"""A runtime that shares no code with asrbuild's, and faults of such a runtime.

It is written from the manifest, TensorFlow's kernels and the equations of the network, computes in
single precision, and writes the results that the conformance kit requires.
"""

from __future__ import annotations

import itertools
import json
import math
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.network import AcousticWeights
from tests.proof.numpy_network import run as network


@dataclass(frozen=True)
class Foreign:
    """Runs the demo by its manifest, with the given ``fault``."""

    manifest: dict[str, Any]
    weights: AcousticWeights
    fault: str = ""

    def write(self, kit: Path, results: Path) -> None:
        """Runs every recording of a kit and writes the result of each step."""
        for recording in json.loads((kit / "steps.json").read_text())["recordings"]:
            folder = results / recording["name"]
            folder.mkdir(parents=True)
            with wave.open(str(kit / recording["audio"])) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            frames = self.frames(samples)
            windows = self.windows(frames)
            calls, states, rows = self.calls(windows)
            arrays = {
                "samples": samples,
                "mfcc": frames,
                "windows": windows,
                "probabilities": rows,
            } | states
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array)
            (folder / "calls.json").write_text(json.dumps(calls))
            (folder / "text.json").write_text(json.dumps(self.words(rows)))

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """MFCC (steps, coefficients)."""
        f, rate = self.manifest["features"], self.manifest["audio"]["sample_rate"]
        size, bands = f["fft_size"], 26 if self.fault == "mel" else f["mel_bands"]
        scale = 1.0 if self.fault == "scale" else self.manifest["audio"]["sample_scale"]
        depth = 0.46 if self.fault == "hamming" else 0.5
        window = np.array(
            [
                1 - depth - depth * math.cos(2 * math.pi * n / f["window_samples"])
                for n in range(f["window_samples"])
            ],
            np.float32,
        )
        table = self.bands(bands, size // 2 + 1, rate)
        rows = []
        for at in range(0, len(samples) - f["window_samples"] + 1, f["step_samples"]):
            frame = samples[at : at + f["window_samples"]].astype(np.float32) * np.float32(scale)
            spectrum = np.abs(np.fft.rfft(frame * window, size)).astype(np.float32)
            logs = np.log(np.maximum(spectrum @ table, f["log_floor"]))
            rows.append(
                [
                    math.sqrt(2 / bands)
                    * sum(logs[j] * math.cos(math.pi / bands * k * (j + 0.5)) for j in range(bands))
                    for k in range(f["coefficients"])
                ]
            )
        return np.array(rows, np.float32).reshape(-1, f["coefficients"])

    def bands(self, count: int, bins: int, rate: int) -> np.ndarray:
        """Mel bands (bins, count), by the rules of TensorFlow's mfcc_mel_filterbank.cc."""
        f = self.manifest["features"]
        mel = lambda hz: 1127 * math.log1p(hz / 700)  # noqa: E731
        low, high = mel(f["lower_hz"]), mel(f["upper_hz"])
        centres = [low + (high - low) / (count + 1) * (i + 1) for i in range(count + 1)]
        hz = 0.5 * rate / (bins - 1)
        table, channel = np.zeros((bins, count), np.float32), 0
        for i in range(int(1.5 + f["lower_hz"] / hz), int(f["upper_hz"] / hz) + 1):
            while channel < count and centres[channel] < mel(i * hz):
                channel += 1
            below = centres[channel - 1] if channel else low
            weight = (centres[channel] - mel(i * hz)) / (centres[channel] - below)
            if channel:
                table[i, channel - 1] += weight
            if channel < count:
                table[i, channel] += 1 - weight
        return table

    def windows(self, frames: np.ndarray) -> np.ndarray:
        """(steps, 2 * context + 1, coefficients)."""
        context, width = self.manifest["features"]["context_frames"], frames.shape[1]
        blank = np.zeros((context, width), np.float32)
        ends = (blank, blank)
        if self.fault == "edges" and len(frames):
            ends = (np.repeat(frames[:1], context, 0), np.repeat(frames[-1:], context, 0))
        padded = np.concatenate([ends[0], frames, ends[1]])
        rows = [padded[i : i + 2 * context + 1] for i in range(len(frames))]
        return np.array(rows, np.float32).reshape(-1, 2 * context + 1, width)

    def calls(self, windows: np.ndarray) -> tuple[list[Any], dict[str, np.ndarray], np.ndarray]:
        """The calls, the states before and after each, and the rows (steps, classes)."""
        size = self.manifest["streaming"]["steps_per_chunk"]
        hidden = self.weights.n_hidden
        c = h = np.zeros((1, hidden), np.float32)
        made: list[Any] = []
        rows = [np.zeros((0, self.weights.n_output), np.float32)]
        names = ("previous_state_c", "previous_state_h", "new_state_c", "new_state_h")
        kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for first in range(0, len(windows), size):
            real = min(size, len(windows) - first)
            if self.fault == "tail" and real < size:
                break
            if self.fault == "state":
                c = h = np.zeros((1, hidden), np.float32)
            kept["previous_state_c"].append(c)
            kept["previous_state_h"].append(h)
            out = network(self.weights, windows[first : first + real], state=(c, h))
            c, h = out["new_state_c"], out["new_state_h"]
            kept["new_state_c"].append(c)
            kept["new_state_h"].append(h)
            rows.append(
                np.exp(out["logits"]) / np.exp(out["logits"]).sum(-1, keepdims=True)
                if self.fault == "softmax"
                else out["logits"]
            )
            made.append({"first": first, "steps": real, "size": size})
        states = {k: np.array(v, np.float32).reshape(-1, 1, hidden) for k, v in kept.items()}
        return made, states, np.concatenate(rows)

    def words(self, rows: np.ndarray) -> dict[str, Any]:
        """The text and words of the most likely path."""
        labels, hop = self.manifest["decoder"]["alphabet"], self.manifest["features"]["step_ms"]
        if self.fault == "alphabet":
            labels = [*labels[1:], labels[0]]
        blank = 0 if self.fault == "blank" else len(labels)
        path, step = [], 0
        for label, run in itertools.groupby(rows.argmax(1).tolist()):
            count = len(list(run))
            again = count if self.fault == "repeats" else 1
            path += [(label, step + i) for i in range(again) if label not in (blank, len(labels))]
            step += count
        text = "".join(labels[label] for label, _ in path)
        words = []
        for space, group in itertools.groupby(path, lambda pair: labels[pair[0]] == " "):
            letters = list(group)
            if not space:
                chances = [math.log(rows[at, label]) for label, at in letters]
                late = 10 if self.fault == "times" else 1
                words.append(
                    {
                        "text": "".join(labels[label] for label, _ in letters),
                        "start_s": letters[0][1] * hop / 1000,
                        "end_s": (letters[-1][1] + late) * hop / 1000,
                        "confidence": math.exp(sum(chances) / len(chances)),
                    }
                )
        return {"text": text, "words": words}
