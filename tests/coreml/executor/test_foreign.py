"""Keras models, converted by coremltools: the executor compared with TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asrbuild.coreml.executor import load

MODELS = ("images", "attention", "recurrent", "causal")
#: Largest error as a fraction of the largest output.
KINDS = {"fp32": 2e-6, "fp16": 4e-3, "network": 2e-6}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    script = Path(__file__).with_name("foreign.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_foreign_model_equals_tensorflow(converted: Path, name: str, kind: str) -> None:
    suffix = "mlmodel" if kind == "network" else "mlpackage"
    with np.load(converted / f"{name}.npz") as stored:
        x, expected = stored["x"], stored["y"]
    model = load(converted / f"{name}-{kind}.{suffix}")
    (given,) = model.inputs
    (found,) = model.predict({given: x}).values()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= KINDS[kind] * np.abs(expected).max()
    assert np.ptp(expected) > 0.05 * np.abs(expected).max()
