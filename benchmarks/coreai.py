"""Core AI assets of a full network: seconds to lower and save, bytes, agreement with our executor.

    python benchmarks/coreai.py [--n-hidden 2048] [--repeat 3] [--pythons]

The weights are random, in every form of the time axis and both precisions. ``lower`` is from the
package on disk to the asset on disk, hand-over included, in a worker that has started. ``bytes`` is
the whole asset against the package's weights. ``error`` is Apple's runtime against asrbuild's
executor, the largest difference of probabilities, and of states relative to their size; a package
in half precision is compared in single precision with its weights rounded to half.

``--pythons`` compares instead the bytes of assets: it makes an environment of each Python that is
found, with two versions of numpy, by uv in a temporary folder, and prints a digest of each form's
files from each of them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
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
from asrbuild.base import environments
from asrbuild.coreai import asset, environment
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
    Steps,
)

STEPS = 16
AXES: dict[str, Steps] = {
    "static": FixedSteps(STEPS),
    "range": RangeSteps(1, STEPS, 2000),
    "enumerated": EnumeratedSteps((STEPS, 64), STEPS),
}
#: The forms for ``--pythons``: every kind of constant, a loop, states, several functions.
FORMS = {
    "static": ConversionRequest(precision="fp32", steps=AXES["static"]),
    "range": ConversionRequest(precision="fp32", steps=AXES["range"]),
    "enumerated": ConversionRequest(steps=AXES["enumerated"]),
    "stateful": ConversionRequest(deployment_target="iOS18", state="stateful"),
    "functions": ConversionRequest(
        deployment_target="iOS18", functions={"short": FixedSteps(1), "long": FixedSteps(STEPS)}
    ),
    **{
        method: ConversionRequest(compress={"layer_2": method, "lstm": method})
        for method in ("int8", "palettize_4", "prune")
    },
}
NUMPYS = ("2.4.6", "2.3.5")
MOST_SECONDS, MOST_BYTES, MOST_ERROR = 4.0, 1.02, 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pythons", action="store_true")
    chosen = parser.parse_args()
    if chosen.pythons:
        with tempfile.TemporaryDirectory() as name:
            return 0 if same_bytes(Path(name)) else 1
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
                print(
                    f"{axis + ' ' + precision:18} {seconds:8.2f} {size / 1e6:7.1f} "
                    f"{ratio:7.3f} {error:9.1e}",
                    flush=True,
                )
                kept &= seconds <= MOST_SECONDS and ratio <= MOST_BYTES and error <= MOST_ERROR
    print(f"at most {MOST_SECONDS:g} s, {MOST_BYTES} and {MOST_ERROR:g}: {'yes' if kept else 'NO'}")
    return 0 if kept else 1


def same_bytes(folder: Path) -> bool:
    """Whether every Python and numpy gives each form the same bytes; prints them."""
    weights, found = random_weights(64), dict[str, set[str]]()
    for form, request in FORMS.items():
        convert_weights(weights, request, folder / f"{form}.mlpackage")
    for version in sorted(environment.PYTHONS):
        base = next((p for p in environments.candidates(version) if _is(p, version)), None)
        if base is None:
            print(f"Python {version}: not found")
            continue
        os.environ["ASRBUILD_COREAI"] = str(folder / version)
        python = environment.install(base)
        for numpy in NUMPYS:
            install = ["uv", "pip", "install", "-q", "--python", str(python), f"numpy=={numpy}"]
            # Outside of the project, which would hold numpy to its own pin.
            subprocess.run(install, check=True, cwd=folder)
            asset.ask(Path("worker"), "ops")
            for form in FORMS:
                made = folder / "made.aimodel"
                asset.lower(folder / f"{form}.mlpackage", made)
                files = sorted(made.iterdir())
                whole = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
                found.setdefault(form, set()).add(whole)
                print(f"Python {version}, numpy {numpy}: {form:12} {whole[:16]}", flush=True)
            asset._workers.pop(python).close()
    same = all(len(digests) == 1 for digests in found.values())
    print(f"the same bytes of each form: {'yes' if same else 'NO'}")
    return same


def _is(python: Path, version: str) -> bool:
    program = "import json, sys; print(json.dumps(sys.version_info[:2]))"
    return bool(environments.answer(python, program) == [int(part) for part in version.split(".")])


def rounded(weights: AcousticWeights) -> AcousticWeights:
    """The weights rounded to half precision."""
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
