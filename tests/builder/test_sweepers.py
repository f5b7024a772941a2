"""Sweeps that a configuration asks for, what they return to Hydra, their plan, and --from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.again import recipe_of
from tests.acceptance.conftest import Finished, run_asrbuild

CALLBACK = '''
from hydra.experimental.callback import Callback

class Seen(Callback):
    """Writes what each job returned."""

    def on_job_end(self, config, job_return, **_):
        with open("returned.txt", "a") as file:
            print(job_return.return_value, file=file)
'''


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A sweep that an experiment asks for, whose second job is impossible."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "modules").mkdir()
    (folder / "modules" / "seen.py").write_text(CALLBACK)
    done = run_asrbuild(
        "experiment=device_sizes", "hydra.sweeper.params.n_steps='16,0'", "verify=quick",
        "verify.witness=off", "tune.returns=[wer,package_bytes]",
        "+hydra.callbacks.seen._target_=seen.Seen",
        cwd=folder, env={"PYTHONPATH": str(folder / "modules")},
    )  # fmt: skip
    return folder, done


def test_a_config_sweeps_and_jobs_return_figures(swept: tuple[Path, Finished]) -> None:
    folder, done = swept
    assert done.code == 1, done.err
    assert "1 of 2 jobs succeeded" in done.out
    first, second = (folder / "returned.txt").read_text().splitlines()
    wer, size = json.loads(first)
    assert wer == 0.0
    assert size > 1_000_000
    assert all(math.isnan(each) for each in json.loads(second.replace("nan", "NaN")))


def test_a_figure_that_is_not_measured_is_refused() -> None:
    from asrbuild.builder.sweep import _returned

    assert _returned(["wer"], {"wer": 0.25}) == 0.25
    assert _returned([], {"wer": 0.25}) is None
    with pytest.raises(AsrbuildError, match="no figure wer") as raised:
        _returned(["wer"], {"wer": None, "bytes": 3})
    assert raised.value.key == "tune.returns"


def test_the_plan_of_a_sweep_names_what_is_shared(tmp_path: Path) -> None:
    done = run_asrbuild(
        "plan", "-m", "model=static", "n_steps=16,32", "coreml.compress=none,int8", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    rows = json.loads(done.out)
    assert [row["name"].partition("mlprogram")[2] for row in rows] == [
        "", "-int8", "-n32", "-n32-int8",
    ]  # fmt: skip
    assert "export" in rows[0]["run"]
    assert {"export", "cases", "reference"} == set(rows[1]["shared"])
    assert "convert" in rows[1]["run"]
    assert rows[2]["shared"] == ["cases"]


def test_an_artifact_is_built_again_from_its_manifest(
    swept: tuple[Path, Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = swept
    monkeypatch.chdir(folder)
    (artifact,) = (folder / "artifacts").glob("*/1*")
    name = artifact.parent.name
    done = run_asrbuild("build", "--from", name, "--json", cwd=folder)
    built = json.loads(done.out.splitlines()[-1])
    assert (built["name"], built["version"], built["stages"]) == (name, artifact.name, [])
    recipe, overrides = recipe_of(name, ["coreml.precision=fp32", "source.second=null"])
    assert (recipe.coreml.precision, recipe.source.second) == ("fp32", None)
    assert overrides[-1] == "source.second=null"
    assert "verify=quick" in overrides
    with pytest.raises(AsrbuildError, match="model=static is none"):
        recipe_of(name, ["model=static"])
    with pytest.raises(AsrbuildError, match=r"source\.path was graph\.pb") as raised:
        recipe_of(name, ["source.path=graph.pb"])
    assert "source.path=PATH" in str(raised.value.fix)
