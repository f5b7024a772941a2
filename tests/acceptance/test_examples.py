"""The scripts of ``examples/`` run as their READMEs describe."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from tests.acceptance.conftest import PLAIN, Finished, finish
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DEMO, ROOT

EXAMPLES = ROOT / "examples"


def run_example(name: str, *arguments: str, cwd: Path, cache: Path) -> Finished:
    """Runs the script of an example with the ``asrbuild`` of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script, own = EXAMPLES / name / "run.sh", {"PATH": path, "ASRBUILD_CACHE": str(cache)}
    return finish("bash", script, *arguments, cwd=cwd, env=os.environ | PLAIN | own, timeout=600)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that all examples share, with the export and the reference."""
    return tmp_path_factory.mktemp("cache")


def test_every_example_is_listed_and_run() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    # tests/handover/app/test_programs.py runs that of the app.
    assert folders == {"checkpoint", "sweep", "optuna", "decoder", "dictation"}
    for folder in folders:
        assert f"({folder}/README.md)" in listed
        assert f"examples/{folder}/run.sh" in (EXAMPLES / folder / "README.md").read_text("utf-8")


def test_the_example_of_a_checkpoint_runs(tmp_path: Path, cache: Path) -> None:
    checkpoint = str(DEMO / "checkpoint")
    done = run_example("checkpoint", checkpoint, "verify=quick", cwd=tmp_path, cache=cache)
    assert done.code == 0, done.err
    assert done.out.strip().splitlines()[-1] == (DEMO / "second.txt").read_text().strip()
    (manifest,) = (tmp_path / "artifacts" / "mine").glob("1.0.0+*/manifest.json")
    assert json.loads(manifest.read_text())["author"] == "the example's author"


def test_the_example_of_a_sweep_runs(tmp_path: Path, cache: Path) -> None:
    done = run_example("sweep", "verify=quick", cwd=tmp_path, cache=cache)
    assert done.code == 0, done.err
    assert "4 of 4 jobs succeeded" in done.out
    assert len(list((tmp_path / "artifacts").glob("*/1.0.0+*/manifest.json"))) == 4


def test_the_example_of_a_search_runs(tmp_path: Path, cache: Path) -> None:
    # The search is over packages of the sweep; tests/builder/test_sweepers.py tests a study.
    quick = ("verify=quick", "hydra.sweeper.n_trials=3", "coreml.compress=none,int8", "n_steps=16")
    done = run_example("optuna", *quick, cwd=tmp_path, cache=cache)
    assert done.code == 0, done.err
    assert "3 of 3 jobs succeeded" in done.out
    found = yaml.safe_load((tmp_path / "search" / "optimization_results.yaml").read_text())
    tried = {trial["params"]["coreml.compress"]: trial["values"] for trial in found["solutions"]}
    assert set(tried) <= {"none", "int8"}
    assert all(0.3 < values["set_wer"] < 0.7 for values in tried.values())


@needs_ds_ctcdecoder
def test_the_example_of_a_decoder_runs(tmp_path: Path, cache: Path) -> None:
    done = run_example("decoder", "verify=quick", cwd=tmp_path, cache=cache)
    assert done.code == 0, done.err
    (manifest,) = (tmp_path / "artifacts" / "prompts").glob("1.0.0+*/manifest.json")
    decoder = json.loads(manifest.read_text())["decoder"]
    assert decoder["type"] == "ds_ctcdecoder"
    assert decoder["beam_width"] == 100
    assert decoder["scorer"]["lm_alpha"] == 0.9
    assert "prompts.scorer" in done.out
