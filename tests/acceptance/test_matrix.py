"""Every recipe, format, precision, LSTM form and kind of state on the demo model, by the engine.

Each cell is built with every gate and every verification input, and published. All share the
workshop's cache, which holds the export and TensorFlow's reference.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import acoustic, open_artifact
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.engine import build
from asrbuild.builder.rules import check_recipe
from asrbuild.builder.sources import settle
from asrbuild.coreai.environment import unsupported
from asrbuild.coreml.inspect import ModelSummary, inspect_model
from benchmarks import matrix
from tests import golden
from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.paths import DEMO

SAID = {name: (DEMO / f"{name}.txt").read_text().strip() for name in ("sample", "second")}
SINGLE = ("static", "dynamic", "dynamic_to_static", "enumerated")
FORMATS, PRECISIONS, LSTMS = ("mlprogram", "neuralnetwork"), ("fp16", "fp32"), ("native", "loop")
#: (model, format, precision, lstm, state). Functions and states came with iOS 18's ML programs, and
#: Core ML's states are fp16.
CELLS = [
    *itertools.product(SINGLE, FORMATS, PRECISIONS, LSTMS, ["explicit"]),
    *itertools.product(SINGLE, ["mlprogram"], ["fp16"], LSTMS, ["stateful"]),
    *itertools.product(["multifunction"], ["mlprogram"], PRECISIONS, LSTMS, ["explicit"]),
]
#: The project's minimum, independent of the gates in conf/verify.
GOALS = {
    "fp16": {"argmax_agreement": 0.999, "psnr_db": 60.0},
    "fp32": {"argmax_agreement": 1.0, "max_abs_error": 1e-4},
}
FORM = {  # (format, lstm) -> operations that the package must have, and must not have
    ("mlprogram", "native"): ("lstm", "while_loop"),
    ("mlprogram", "loop"): ("while_loop", "lstm"),
    ("neuralnetwork", "native"): ("uniDirectionalLSTM", "loop"),
    ("neuralnetwork", "loop"): ("loop", "uniDirectionalLSTM"),
}
Cell = tuple[str, str, str, str, str]
#: The neural network that .ci/run builds with each kernel, besides every function.
OF_KERNELS = ("dynamic_to_static", "neuralnetwork")


def overrides(cell: Cell) -> list[str]:
    keys = ("model", "coreml", "coreml.precision", "coreml.lstm", "coreml.state")
    return [f"{key}={value}" for key, value in zip(keys, cell, strict=True)]


def test_the_cells_are_all_combinations_of_a_recipe(tmp_path: Path) -> None:
    assert len(CELLS) == len(set(CELLS)) == 44
    axes = {cell.values for cell in matrix.cells([], tmp_path)}
    assert axes == set(CELLS)


@pytest.fixture
def cache(workshop: Workshop) -> Path:
    """The workshop's cache."""
    return workshop.folder / ".asrbuild" / "cache"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of cells that .ci/run builds with each kernel, where no workshop is needed."""
    return tmp_path_factory.mktemp("matrix")


def built_at(artifacts: Path, cache: Path, *overrides: str) -> Path:
    """The artifact of a recipe, built in this process."""
    paths = [f"paths.cache={cache}", f"paths.artifacts={artifacts}"]
    return build(compose_recipe([*overrides, *paths])).path


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_a_cell_is_built_and_proven(
    cell: Cell, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with_each_kernel = cell[:1] == ("multifunction",) or cell[:2] == OF_KERNELS
    cache = request.getfixturevalue("own_cache" if with_each_kernel else "cache")
    witnessed = cell[1] == "mlprogram" and unsupported() is None
    if witnessed:
        request.getfixturevalue("core_ai")
    asked = ["verify.witness=required"] if witnessed else []
    path = built_at(tmp_path, cache, *overrides(cell), *asked)
    manifest = read_manifest(path)
    assert (manifest.verification.witness is not None) == witnessed
    assert_it_is_what_was_asked_for(cell, manifest, inspect_model(path / manifest.model.package))
    assert_it_was_proven(cell, manifest)
    golden.check_artifact("-".join(cell), path)


def assert_it_is_what_was_asked_for(cell: Cell, manifest: Manifest, package: ModelSummary) -> None:
    model, form, precision, lstm, state = cell
    assert package.kind == manifest.model.format == form
    there, absent = FORM[form, lstm]
    for function in package.functions:
        assert function.ops.get(there) == 1
        assert absent not in function.ops
        (steps,) = {f.shape_text for f in function.inputs if f.name == "input_node"}
        kind = function.name if model == "multifunction" else model
        assert steps == f"(1, {_steps(kind, form)}, 19, 26)"
        inside = {feature.name for feature in function.states}
        assert inside == ({"state_c", "state_h"} if state == "stateful" else set())
    names = {function.name for function in package.functions}
    assert len(names) == (3 if model == "multifunction" else 1)
    assert names == {function.name for function in manifest.model.functions}
    half, whole = (package.weight_bytes.get(name, 0) for name in ("float16", "float32"))
    assert half > 1_500_000 > whole if precision == "fp16" else whole > 3_000_000 > half == 0
    assert {pair.kind for pair in manifest.state} == {state}
    assert {pair.valid for pair in manifest.state} == {"always"}


def _steps(kind: str, form: str) -> str:
    flexible = "1..3000" if form == "mlprogram" else "1.."
    return {"dynamic": flexible, "whole": flexible, "enumerated": "16|32|64", "chunk_32": "32"}.get(
        kind, "16"
    )


def assert_it_was_proven(cell: Cell, manifest: Manifest) -> None:
    model, _, precision, _, _ = cell
    verification = manifest.verification
    assert verification.executed
    assert verification.passed
    assert all(metric.passed for metric in verification.metrics)
    assert {metric.output for metric in verification.metrics} == {
        "logits",
        "new_state_c",
        "new_state_h",
    }
    inputs = {entry.name for entry in verification.inputs}
    assert {"sample", "second", "silence", "noise", "clipped", "random"} < inputs
    run = {metric.input for metric in verification.metrics}
    assert inputs <= {name.split("@")[0] for name in run}
    ways = {"multifunction": {"chunk_32", "whole"}, "enumerated": {"32", "64"}}.get(model, set())
    assert {f"sample@{way}" for way in ways} <= run
    for metric in verification.metrics:
        goal = GOALS[precision].get(metric.name)
        speech = metric.input.split("@")[0] in SAID
        if metric.output == "logits" and goal is not None and speech:
            good = metric.value >= goal if metric.comparison == ">=" else metric.value <= goal
            assert good, metric
    heard = {(t.input.split("@")[0], t.package) for t in verification.transcripts}
    assert heard == set(SAID.items())
    assert all(t.match for t in verification.transcripts)


REFUSED = [
    cell
    for cell in itertools.product(
        (*SINGLE, "multifunction"), FORMATS, PRECISIONS, LSTMS, ["explicit", "stateful"]
    )
    if cell not in CELLS
]


@pytest.mark.parametrize("cell", REFUSED, ids="-".join)
def test_a_cell_that_core_ml_lacks_is_refused_when_composed(cell: Cell, tmp_path: Path) -> None:
    model, form, *_ = cell
    with pytest.raises(AsrbuildError) as caught:
        check_recipe(settle(compose_recipe(overrides(cell)), tmp_path)[0])
    if form == "neuralnetwork":
        key = "model.functions" if model == "multifunction" else "coreml.state"
    else:
        key = "coreml.state" if model == "multifunction" else "coreml.precision"
    assert caught.value.key == key
    assert caught.value.fix


def test_an_app_may_choose_a_function_and_change_it_on_the_way(
    own_cache: Path, tmp_path: Path
) -> None:
    """The manifest describes each function; ``transcribe`` runs each; all share one state."""
    path = built_at(tmp_path, own_cache, "model=multifunction")
    manifest = read_manifest(path)
    feeding = {f.name: f.streaming for f in manifest.model.functions}
    uses = {name: (fed.mode, fed.steps_per_chunk) for name, fed in feeding.items()}
    assert uses == {
        "chunk_16": ("chunked", 16),
        "chunk_32": ("chunked", 32),
        "whole": ("whole", 3000),
    }
    assert manifest.streaming == feeding[manifest.model.default_function]
    said: dict[str, str] = {}
    for name in (*uses, "hole"):
        done = run_asrbuild(
            "transcribe", str(path), str(DEMO / "second.wav"), "--function", name, cwd=tmp_path
        )
        said[name] = done.out.strip() if done.code == 0 else done.err
    assert said.pop("hole") == (
        "error: no function hole in the package\n"
        "  fix: the functions are chunk_16, chunk_32, whole\n"
    )
    assert set(said.values()) == {SAID["second"]}
    windows = np.random.default_rng(0).standard_normal((100, 19, 26)).astype(np.float32)
    runs = {name: open_artifact(path, function=name) for name in uses}
    whole = acoustic(runs["whole"].package, runs["whole"].contract, windows)
    c = h = np.zeros((1, 256), np.float32)
    rows: list[np.ndarray] = []
    for name, size in (("chunk_16", 16), ("chunk_32", 32), ("chunk_16", 16), ("whole", 36)):
        part = windows[None, len(rows) : len(rows) + size]
        lengths = np.array([size], np.int32)
        found = runs[name].package.predict(
            {
                "input_node": part,
                "input_lengths": lengths,
                "previous_state_c": c,
                "previous_state_h": h,
            }
        )
        c, h = found["new_state_c"], found["new_state_h"]
        rows += [*found["logits"][:, 0]]
    # A program in fp16 rounds to 2 ** -11 of a value. A kernel that rounds a row of the long call
    # differently moves such a value by one unit, 2 ** -10 of it, and later steps carry that on.
    np.testing.assert_allclose(rows, whole.probabilities, atol=2e-2)
    np.testing.assert_allclose(c, whole.state["new_state_c"], atol=2e-2, rtol=4 * 2**-10)


def test_a_wrong_package_is_never_published(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conversion swaps two gates: every shape fits, and only a run shows the fault."""
    from asrbuild.architectures.deepspeech import weights as source

    load_weights = source.load_weights

    def wrong_weights(*given: Any) -> Any:
        weights = load_weights(*given)
        kernel, bias = (np.split(a, 4, axis=-1) for a in (weights.lstm_kernel, weights.lstm_bias))
        mixed = {"lstm_kernel": kernel, "lstm_bias": bias}
        parts = {k: np.concatenate([v[i] for i in (0, 1, 3, 2)], -1) for k, v in mixed.items()}
        return replace(weights, **parts)

    monkeypatch.setattr(source, "load_weights", wrong_weights)
    # The description is unique, so that no other test finds this package in the cache.
    ask = ("model=static", "verify=quick", "source.description=wrong")
    for _ in range(2):  # a failed proof is not cached
        with pytest.raises(AsrbuildError, match="does not do what the TensorFlow graph") as caught:
            built_at(tmp_path, cache, *ask)
        assert "sample: logits argmax_agreement" in caught.value.message
        assert "first divergence: lstm (node " in caught.value.message
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".json"]


def test_a_costly_combination_is_noted(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = "coreml.minimum_deployment_target=iOS15"
    path = built_at(tmp_path, cache, "model=static", "verify=quick", target)
    assert "note: before iOS17 an lstm op computes in fp32" in capfd.readouterr().err
    assert read_manifest(path).model.minimum_os["iOS"] == "15"


def test_the_matrix_prints_a_table(tmp_path: Path) -> None:
    """``benchmarks/matrix.py`` measures one cell of the demo model and its plain conversion."""
    done = subprocess.run(
        [sys.executable, matrix.__file__, "--only", "static,mlprogram,fp32,native", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["cell"] == "static mlprogram fp32 native"
    assert row["failed"] == 0
    assert row["words"] is True
    assert (row["ops_before"], row["ops_after"]) == (57, 33)
    assert row["ratio"] > 0
