"""Core AI assets of a full network: seconds to lower and save, bytes, agreement with our executor.

    python benchmarks/coreai.py [--n-hidden 2048] [--repeat 3]

Of random weights, in every form of the time axis and both precisions. ``lower`` is from the package
on disk to the asset on disk, hand-over included, in a worker that has started. ``bytes`` is the
whole asset against the package's weights. ``error`` is Apple's runtime against asrbuild's executor,
the largest difference of probabilities, and of states relative to their size; a package in half
precision is compared in single precision with its weights rounded to half.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import (
    VARIABLES,
    AcousticWeights,
    random_weights,
)
from asrbuild.coreai import asset
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import ConversionRequest, EnumeratedSteps, FixedSteps, RangeSteps

STEPS = 16
AXES = {
    "static": FixedSteps(STEPS),
    "range": RangeSteps(1, STEPS, 2000),
    "enumerated": EnumeratedSteps((STEPS, 64), STEPS),
}
MOST_SECONDS, MOST_BYTES, MOST_ERROR = 4.0, 1.02, 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    weights = random_weights(chosen.n_hidden)
    asset.ask(Path("worker"), "ops")
    kept = True
    print(f"{'form':18} {'lower s':>8} {'MB':>7} {'bytes':>7} {'error':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for precision in ("fp32", "fp16"):
            wide = folder / "wide.mlpackage"
            exact = weights if precision == "fp32" else rounded(weights)
            convert_weights(exact, ConversionRequest(precision="fp32"), wide)
            for axis, steps in AXES.items():
                package, made = folder / "package.mlpackage", folder / "made.aimodel"
                convert_weights(
                    weights, ConversionRequest(precision=precision, steps=steps), package
                )
                seconds = statistics.median(lowered(package, made) for _ in range(chosen.repeat))
                size = sum(file.stat().st_size for file in made.iterdir())
                ratio = size / sum(file.stat().st_size for file in package.rglob("weight.bin"))
                error = disagreement(package, wide, chosen.n_hidden)
                print(f"{axis + ' ' + precision:18} {seconds:8.2f} {size / 1e6:7.1f} "
                      f"{ratio:7.3f} {error:9.1e}", flush=True)  # fmt: skip
                kept &= seconds <= MOST_SECONDS and ratio <= MOST_BYTES and error <= MOST_ERROR
    print(f"at most {MOST_SECONDS:g} s, {MOST_BYTES} and {MOST_ERROR:g}: {'yes' if kept else 'NO'}")
    return 0 if kept else 1


def rounded(weights: AcousticWeights) -> AcousticWeights:
    """Weights as half precision holds them."""
    arrays = {name: getattr(weights, name) for name in VARIABLES}
    return replace(
        weights,
        **{name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()},
    )


def lowered(package: Path, made: Path) -> float:
    start = time.perf_counter()
    asset.lower(package, made)
    return time.perf_counter() - start


def disagreement(package: Path, wide: Path, hidden: int) -> float:
    """The largest difference of an output, relative to its size where that is above 1."""
    rng = np.random.default_rng(0)
    given = {
        "input_node": rng.standard_normal((1, STEPS, 19, 26)).astype(np.float32),
        "input_lengths": np.array([STEPS], np.int32),
        "previous_state_c": rng.standard_normal((1, hidden)).astype(np.float32),
        "previous_state_h": rng.standard_normal((1, hidden)).astype(np.float32),
    }
    wanted = load(wide).predict(given)
    with asset.open_witness(package) as model:
        got = model.predict(given)
    return max(
        float(np.abs(got[name] - value).max() / max(1.0, float(np.abs(value).max())))
        for name, value in wanted.items()
    )


if __name__ == "__main__":
    sys.exit(main())
