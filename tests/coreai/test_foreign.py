"""A foreign package in both runtimes: Spotify's Basic Pitch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from asrbuild.coreai import asset
from asrbuild.coreml.executor import load
from tests.marks import needs_core_ai
from tests.paths import DEMO

WHEEL = "basic-pitch==0.4.0"


@pytest.fixture(scope="session")
def basic_pitch(core_ai_folder: Path) -> Path:
    """``nmp.mlpackage`` of the wheel, fetched once on a machine without its dependencies."""
    folder = core_ai_folder.with_name(WHEEL)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            fresh = folder.with_name(f"{WHEEL}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            uv = shutil.which("uv")
            pip = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
            subprocess.run(
                [*pip, "install", "-q", "--no-deps", "--target", str(fresh), WHEEL],
                check=True,
                timeout=300,
            )
            fresh.rename(folder)
    (package,) = folder.rglob("nmp.mlpackage")
    return package


@needs_core_ai
def test_both_runtimes_agree_on_basic_pitch(basic_pitch: Path) -> None:
    import soundfile

    samples, _ = soundfile.read(DEMO / "sample.wav", dtype="float32")
    audio = np.resize(samples, (1, 43844, 1))
    wanted = load(basic_pitch).predict({"input_2": audio})
    with asset.open_witness(basic_pitch) as apples:
        got = apples.predict({"input_2": audio})
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.abs(value).max() > 0.1
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-4, err_msg=name)
