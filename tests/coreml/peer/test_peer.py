"""coremltools' own tests with the executor in place of Core ML; see docs/executor-peer.md."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

SEED, SAMPLE = os.environ.get("PEER_SEED", "0"), int(os.environ.get("PEER_SAMPLE", "40"))
#: The parts of the wheel whose tests predict, and their requirements.
OPS = "converters/mil/mil/ops/tests"
LAYERS = "test/neural_network/test_numpy_nn_layers.py"
TENSORFLOW = "converters/mil/frontend/tensorflow/test/test_ops.py"
PARTS = {
    OPS: "",
    "test/neural_network": "",
    "converters/mil/frontend/tensorflow/test": "tensorflow",
    "converters/mil/frontend/tensorflow2/test": "tensorflow",
    "converters/mil/frontend/torch/test": "torch",
}
#: Files that cannot run here: they call Core ML's compiler, or are written for Keras 2.
NOT_HERE = (
    "test_compiled_model.py",
    "test_v2_ops_tf_keras.py",
    "test_tf2_conversion_api.py",
    "test_v2_load.py",
)


def wheel() -> Path:
    """The installed coremltools, found without importing it."""
    spec = importlib.util.find_spec("coremltools")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def files(part: str) -> list[str]:
    """The test files of a part, from the wheel's folder."""
    found = sorted((wheel() / part).rglob("test_*.py"))
    return [str(one.relative_to(wheel())) for one in found if one.name not in NOT_HERE]


def peer(tests: list[str], results: Path, *options: str) -> list[dict[str, Any]]:
    """Runs tests of the wheel; every test's outcome.

    Raises:
        AssertionError: one failed that is not listed, or one passed that is listed as failing.
    """
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_ADDOPTS": "",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        str(wheel()),
        "-p",
        "tests.coreml.peer.stand_in",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-W",
        "ignore",
        "--tb",
        "short",
        "--peer-results",
        str(results),
        *options,
        *(str(wheel() / test) for test in tests),
    ]
    done = subprocess.run(
        command, cwd=results.parent, env=environment, capture_output=True, text=True, check=False
    )
    # 5: no test of a file is for this system.
    assert done.returncode in (0, 5), done.stdout[-8000:] + done.stderr[-2000:]
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


def test_a_sample_of_the_wheels_tests_passes_as_listed(tmp_path: Path) -> None:
    """The sample has one case of some functions, and one of every line of the page's table."""
    chosen = [OPS, LAYERS, TENSORFLOW]
    rows = peer(chosen, tmp_path / "r", "--peer-sample", str(SAMPLE), "--peer-seed", SEED)
    outcomes = Counter(row["outcome"] for row in rows)
    assert outcomes["passed"] >= SAMPLE // 2, outcomes
    assert sum(row["predictions"] for row in rows) >= SAMPLE // 3
    assert outcomes["failed"] == 0


def test_the_plugin_finds_wrong_values(tmp_path: Path) -> None:
    """The negative control: with every output shifted, all comparisons fail."""
    shift = tmp_path / "shifted.py"
    shift.write_text(
        "from tests.coreml.peer.stand_in import Proxy\n"
        "right = Proxy.predict\n"
        "Proxy.predict = lambda *given: {n: v + 5 for n, v in right(*given).items()}\n"
    )
    path = f"{OPS}/iOS14/test_reduction.py"
    with pytest.raises(AssertionError, match=r"\d+ failed"):
        peer(
            [path],
            tmp_path / "r",
            "-p",
            "shifted",
            "-k",
            "test_builder_to_backend_smoke",
            "-o",
            f"pythonpath={tmp_path}",
        )
    rows = [json.loads(line) for line in (tmp_path / "r").read_text().splitlines()]
    ran = [row for row in rows if row["predictions"]]
    assert ran
    assert {row["outcome"] for row in ran} == {"failed"}


#: Takes hours: on request only.
EVERY = [(needs, path) for part, needs in PARTS.items() for path in files(part)]


@pytest.mark.parametrize(("needs", "path"), EVERY if os.environ.get("PEER") == "all" else [])
def test_all_of_the_wheels_tests_pass_as_listed(needs: str, path: str, tmp_path: Path) -> None:
    if needs and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    rows = peer([path], tmp_path / "results")
    print(path, dict(Counter(row["outcome"] for row in rows)))
