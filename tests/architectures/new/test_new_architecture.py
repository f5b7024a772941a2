"""A new architecture is one folder and one yaml; no other file of asrbuild names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
NAME = "cached_convolution"
Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of asrbuild with the folder and the yaml added."""
    copy = tmp_path_factory.mktemp("installed")
    for name in ("asrbuild", "conf", "hydra_plugins"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
    shutil.copytree(HERE / NAME, copy / "asrbuild" / "architectures" / NAME)
    shutil.copyfile(HERE / f"{NAME}.yaml", copy / "conf" / "source" / f"{NAME}.yaml")
    return copy


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)

    def layer(outputs: int, inputs: int) -> np.ndarray:
        return (rng.standard_normal((outputs, inputs)) / inputs).astype(np.float32)

    arrays = {"first": layer(24, 39), "second": layer(24, 72), "classes": 9 * layer(5, 24)}
    arrays |= {f"{name}_bias": rng.random(len(a), np.float32) for name, a in arrays.items()}
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def asrbuild(installed: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments: str) -> Run:
        return subprocess.run(
            [sys.executable, "-m", "asrbuild", *arguments],
            cwd=folder,
            env=os.environ
            | {"PYTHONPATH": str(installed), "COLUMNS": "160", "NO_COLOR": "1"}
            | {"ASRBUILD_ARTIFACTS": str(folder / "a"), "ASRBUILD_CACHE": str(folder / "c")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


#: With random weights the classes are nearly even, and half precision decides by chance.
HALF = "verify.require_transcript=false"


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=dynamic", "coreml.precision=fp32"),
        ("model=static", "coreml.compress=int8", "coreml.compress_layers.first=none", HALF),
        ("model=static", "coreml.state=stateful", "verify=quick", HALF),
        ("model=multifunction", "verify=quick", HALF),
        ("model=enumerated", "coreml=neuralnetwork", "verify=quick"),
    ],
)
def test_its_artifact_is_built_verified_and_transcribes(
    asrbuild, weights: Path, overrides: tuple[str, ...]
) -> None:
    name = "-".join(word.rpartition("=")[2] for word in overrides)
    given = (f"source={NAME}", f"source.config.weights={weights}", f"name={name}", *overrides)
    built = asrbuild(*given)
    assert built.returncode == 0, built.stderr + built.stdout
    assert "words" in built.stdout
    again = asrbuild(*given)
    assert "nothing to do" in again.stdout, again.stderr
    verified = asrbuild("verify", name)
    assert verified.returncode == 0, verified.stderr + verified.stdout
    sample = PROJECT / "asrbuild" / "demo" / "second.wav"
    heard = asrbuild("transcribe", name, str(sample))
    assert heard.returncode == 0, heard.stderr
    manifest = json.loads(asrbuild("show", name, "--json").stdout)
    recipe = manifest["provenance"]["recipe"]
    assert "export" not in recipe
    first = "none" if "coreml.compress=int8" in overrides else None
    assert recipe["coreml"]["compress_layers"] == {"first": first, "second": None, "classes": None}
    states = [state["output"] for state in manifest["state"]]
    kept = "coreml.state=stateful" in overrides
    assert states == (["frame_cache", "hidden_cache"] if kept else ["kept_frames", "kept_hidden"])
    outputs = {metric["output"] for metric in manifest["verification"]["metrics"]}
    assert outputs == {"chances", "kept_frames", "kept_hidden"}


def test_its_section_of_the_recipe_is_checked(asrbuild, weights: Path) -> None:
    given = (f"source={NAME}", f"source.config.weights={weights}")
    done = asrbuild(*given, "+source.config.depth=3")
    assert done.returncode == 1
    assert "key: source.config.depth" in done.stderr, done.stderr
    done = asrbuild(*given, "+source.config.sample_rate=fast")
    assert "key: source.config.sample_rate" in done.stderr, done.stderr
    done = asrbuild(*given, "coreml.compress_layers.lstm=int8")
    assert "key: coreml.compress_layers.lstm" in done.stderr, done.stderr
    assert "its layers are first, second, classes" in done.stderr, done.stderr
    done = asrbuild(f"source={NAME}", "source.config.weights=none.npz")
    assert "key: source.config.weights" in done.stderr, done.stderr
