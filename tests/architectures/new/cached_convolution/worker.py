"""The original: the network in numpy, in a process of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from asrbuild.architectures.cached_convolution.signature import TAPS

from asrbuild.architectures.original import serve
from asrbuild.base.array import Array


def run(options: argparse.Namespace, cases: Mapping[str, Array]) -> dict[str, Array]:
    """Writes every output of every case, and both states after every step."""
    with np.load(Path(options.model)) as stored:
        weights = dict(stored)
    results: dict[str, Array] = {}
    for case, features in cases.items():
        rows = features.reshape(len(features), -1)
        hidden, kept_frames = convolve(rows, weights["first"], weights["first_bias"])
        wide, kept_hidden = convolve(hidden, weights["second"], weights["second_bias"])
        scores = wide @ weights["classes"].T + weights["classes_bias"]
        exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
        results[f"{case}/chances"] = exponents / exponents.sum(axis=-1, keepdims=True)
        for name, kept in (("kept_frames", kept_frames), ("kept_hidden", kept_hidden)):
            results[f"{case}/{name}"] = kept[-1:]
            results[f"{case}/steps/{name}"] = kept
    return results


def convolve(rows: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """A causal convolution (T, outputs), and the rows that it keeps after each step."""
    padded = np.concatenate([np.zeros((TAPS - 1, rows.shape[1]), np.float32), rows])
    windows = np.stack([padded[at : at + TAPS] for at in range(len(rows))])
    made = windows.reshape(len(rows), -1) @ weight.T + bias
    return np.maximum(made, 0), windows[:, 1:]


if __name__ == "__main__":
    sys.exit(serve(run, lambda: None, "--model"))
