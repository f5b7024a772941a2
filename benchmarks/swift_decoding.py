"""Time and memory of the app kit's beam search with the demo's scorer, in Swift.

    python benchmarks/swift_decoding.py [--beam-width 500] [--minutes 60] [--json]

The utterance is the demo's sample, repeated, as probabilities in pieces of 16 steps. The time
is the processor's; the limit is a tenth of the sound's length on one core. Needs Swift on PATH.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.speech.alphabet import read_alphabet
from asrbuild.speech.audio import read_audio
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.artifact.numpy_package import network
from tests.handover.app.swift_decoder import build_tool
from tests.paths import DEMO

LIMIT = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beam-width", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    weights = read_weights(find_checkpoint(DEMO / "checkpoint", "auto"))
    zeros = np.zeros((1, weights.n_hidden), np.float32)
    frames = features(read_audio(DEMO / "sample.wav", 16_000), FeatureSettings())
    rows = network(weights, frames, zeros, zeros)[0].astype(np.float32)
    rows = np.tile(rows, (max(1, round(given.minutes * 3000 / len(rows))), 1))
    cases = [
        {
            "p": rows,
            "tokens": 0,
            "output": "probabilities",
            "decoder": "beam",
            "n_best": 1,
            "width": given.beam_width,
            "scorer": scorer,
            "cuts": list(range(0, len(rows), 16)),
        }
        for scorer in (str(DEMO / "prompts.scorer"), None)
    ]
    with tempfile.TemporaryDirectory() as folder:
        tool = build_tool(Path(folder))
        answers = tool.decode(cases, (read_alphabet(DEMO / "alphabet.txt"),))
    seconds = 0.02 * len(rows)
    ratios = {
        name: answer["seconds"] / seconds
        for name, answer in zip(("scorer", "none"), answers, strict=True)
    }
    peak = max(answer["peak_mib"] for answer in answers)
    result = {"seconds": seconds, "of_real_time": ratios, "peak_mib": peak, "limit": LIMIT}
    if given.json:
        print(json.dumps(result))
        return
    print(f"{seconds:.0f} s of sound, beam width {given.beam_width}, at most {peak:.0f} MiB")
    for name, ratio in ratios.items():
        print(f"  {name:8} {ratio:.4f} of real time (limit {LIMIT} with a scorer)")


if __name__ == "__main__":
    main()
