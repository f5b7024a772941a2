"""Sweeps that a configuration requests, their results for Hydra, their plan, and ``--from``."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.again import recipe_of
from asrbuild.builder.sweep_jobs import done as jobs_done
from asrbuild.cli.main import dispatch
from hydra_plugins.asrbuild_optuna_sweeper import (
    RESULTS,
    OptunaConf,
    _directions,
    _distribution,
    _study,
)
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
    """The folder of a sweep that an experiment requests; its second job is impossible."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "modules").mkdir()
    (folder / "modules" / "seen.py").write_text(CALLBACK)
    done = run_asrbuild(
        "experiment=device_sizes",
        "hydra.sweeper.params.n_steps='16,0'",
        "verify=quick",
        "verify.witness=off",
        "tune.returns=[wer,package_bytes]",
        "+hydra.callbacks.seen._target_=seen.Seen",
        "hydra.sweep.dir=out",
        "hydra.output_subdir=.hydra",
        cwd=folder,
        env={"PYTHONPATH": str(folder / "modules")},
    )
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


def test_a_sweep_counts_its_jobs_and_leaves_its_files(swept: tuple[Path, Finished]) -> None:
    folder, done = swept
    lines = [line for line in done.err.splitlines() if line.partition("] ")[2].startswith("job ")]
    assert "1 of 2: " in lines[0]
    assert "built; 1 of 2 jobs" in lines[1]
    assert "2 of 2: " in lines[2]
    assert "failed; 2 of 2 jobs" in lines[3]
    assert "page: out/sweep.html" in done.out
    assert (folder / "out" / "sweep.html").is_file()
    assert "n_steps" in (folder / "out" / "multirun.yaml").read_text()
    assert "- n_steps=16" in (folder / "out" / "0" / ".hydra" / "overrides.yaml").read_text()


def test_the_remaining_time_follows_the_jobs_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "about").write_text('{"varied": [], "jobs": 12, "folder": ".", "better": {}}')
    ends = {0: 1000, 1: 1060, 2: 1180}
    for number, at in ends.items():
        record = tmp_path / f"{number:04d}.json"
        record.write_text('{"status": "built"}')
        os.utime(record, (at, at))
    (tmp_path / "0003.json").write_text('{"status": "running"}')
    # The two jobs after the first took 90 s each, and nine are left.
    assert str(jobs_done(tmp_path)) == "3 of 12 jobs, about 14 min left"
    (tmp_path / "about").unlink()
    assert str(jobs_done(tmp_path)) == "3 jobs"


@pytest.fixture(scope="module")
def searched(swept: tuple[Path, Finished]) -> tuple[Path, Finished]:
    """A search of five trials, two at a time, over cached and impossible builds."""
    folder, _ = swept
    done = run_asrbuild(
        "-m",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.storage=sqlite:///study.db",
        "hydra.sweeper.study_name=shapes",
        "hydra.sweeper.direction=[minimize,maximize]",
        "model=dynamic_to_static",
        "n_steps=16,0",
        "verify=quick",
        "verify.witness=off",
        "tune.returns=[wer,package_bytes]",
        "hydra.sweep.dir=search",
        cwd=folder,
    )
    return folder, done


def test_optuna_searches_by_the_figures_of_jobs(searched: tuple[Path, Finished]) -> None:
    import optuna
    import yaml

    folder, done = searched
    assert "Traceback" not in done.err
    study = optuna.load_study(study_name="shapes", storage=f"sqlite:///{folder}/study.db")
    states = {(trial.params["n_steps"], trial.state.name) for trial in study.trials}
    assert len(study.trials) == 5
    assert states == {("16", "COMPLETE"), ("0", "FAIL")}
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    page = (folder / "search" / "sweep.html").read_text("utf-8")
    better = dict(re.findall(r'data-axis="(\w+)" data-scale="\w+" data-better="(\w*)"', page))
    assert (better["wer"], better["size"], better["latency"]) == ("low", "high", "low")
    (best,) = yaml.safe_load((folder / "search" / RESULTS).read_text())["solutions"]
    (artifact,) = (folder / "artifacts").glob("*/1*")
    size = sum(f.stat().st_size for f in (artifact / "model.mlpackage").rglob("*") if f.is_file())
    assert best["params"] == {"n_steps": "16"}
    assert best["values"] == {"wer": 0.0, "package_bytes": size}
    assert "best       wer 0, package_bytes" in done.err
    rows = [line.split("\t") for line in done.out.splitlines() if "\t" in line]
    assert rows[0][:3] == ["#", "status", "n_steps"]
    assert {tuple(row[1:3]) for row in rows[1:]} == {("unchanged", "16"), ("failed", "0")}


def distribution(text: str) -> object:
    import optuna
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return _distribution(optuna, OverridesParser.create().parse_override(f"key={text}"))


def test_values_in_hydras_grammar_become_those_of_optuna() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    assert distribution("a,'b c'") == CategoricalDistribution(["a", "'b c'"])
    assert distribution("range(8,33,8)") == IntDistribution(8, 32, step=8)
    assert distribution("range(0.1,0.5,0.1)") == FloatDistribution(0.1, 0.4, step=0.1)
    assert distribution("interval(0.5,0.9)") == FloatDistribution(0.5, 0.9)
    assert distribution("int(interval(8,64))") == IntDistribution(8, 64)
    assert distribution("tag(log,int(interval(8,1024)))") == IntDistribution(8, 1024, log=True)
    with pytest.raises(AsrbuildError, match="has no value"):
        distribution("interval(2,1)")


@pytest.mark.parametrize(
    ("asked", "figures", "key"),
    [
        ("minimize", [], "tune.returns"),
        ("down", ["wer"], "hydra.sweeper.direction"),
        (["minimize"], ["wer", "bytes"], "hydra.sweeper.direction"),
    ],
)
def test_a_search_without_a_direction_is_refused(
    asked: object, figures: list[str], key: str
) -> None:
    assert _directions("minimize", ["wer", "bytes"]) == ["minimize"] * 2
    with pytest.raises(AsrbuildError) as raised:
        _directions(asked, figures)
    assert raised.value.key == key


def test_a_missing_sampler_or_storage_is_refused() -> None:
    import optuna

    for settings, key in (
        (OptunaConf(sampler="best"), "hydra.sweeper.sampler"),
        (OptunaConf(storage="nowhere://x"), "hydra.sweeper.storage"),
    ):
        with pytest.raises(AsrbuildError) as raised:
            _study(optuna, settings, ["minimize"])
        assert raised.value.key == key


def test_an_unknown_figure_is_refused() -> None:
    from asrbuild.builder.sweep import _returned

    assert _returned(["wer"], {"wer": 0.25}) == 0.25
    assert _returned([], {"wer": 0.25}) is None
    with pytest.raises(AsrbuildError, match="no figure wer") as raised:
        _returned(["wer"], {"wer": None, "bytes": 3})
    assert raised.value.key == "tune.returns"


def test_a_job_of_a_sweep_records_its_overrides_as_a_single_build_does() -> None:
    from asrbuild.builder.compose import jobs_of
    from asrbuild.builder.record import published_overrides

    given = ["source.sample.audio=demo:sample.wav", "description='a\\:b'"]
    jobs = jobs_of(["n_steps=16,32", *given])
    assert [published_overrides(job) for job in jobs] == [
        ["n_steps=16", *given],
        ["n_steps=32", *given],
    ]


def test_the_plan_of_a_sweep_shows_the_swept_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch(["plan", "-m", "model=static", "n_steps=16,32", "name=one"]) == 0
    title, headings, *rows = capsys.readouterr().out.splitlines()
    assert title == "2 jobs"
    assert headings.split("\t") == [
        "job",
        "n_steps",
        "name",
        "would run",
        "shared with a job before",
    ]
    assert [row.split("\t")[:3] for row in rows] == [["0", "16", "one"], ["1", "32", "one"]]
    # An experiment that sweeps is planned as it is built.
    assert dispatch(["plan", "experiment=device_sizes", "name=one"]) == 0
    title, headings, *rows = capsys.readouterr().out.splitlines()
    assert title == "3 jobs"
    assert [row.split("\t")[1] for row in rows] == ["16", "64", "150"]
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "sizes.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper: {params: {n_steps: '8,9'}}\n"
    )
    monkeypatch.setenv("ASRBUILD_TRUST_CONFIG", "")  # set by the flag; unset again after the test
    own = ["--config-dir", "own", "--trust-config", "experiment=sizes", "coreml.compress=none,int8"]
    assert dispatch(["plan", "-m", *own]) == 0
    title, headings, *rows = capsys.readouterr().out.splitlines()
    assert headings.split("\t")[1:3] == ["n_steps", "coreml.compress"]
    assert [row.split("\t")[1:3] for row in rows] == [
        [steps, compress] for steps in ("8", "9") for compress in ("none", "int8")
    ]


def test_the_plan_of_a_sweep_names_shared_stages(tmp_path: Path) -> None:
    done = run_asrbuild(
        "plan",
        "-m",
        "model=static",
        "n_steps=16,32",
        "coreml.compress=none,int8",
        "--json",
        cwd=tmp_path,
    )
    rows = json.loads(done.out)
    assert [row["name"].partition("mlprogram")[2] for row in rows] == [
        "",
        "-int8",
        "-n32",
        "-n32-int8",
    ]
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
    with pytest.raises(AsrbuildError, match="model=static is not a key with a value"):
        recipe_of(name, ["model=static"])
    with pytest.raises(AsrbuildError, match="unknown key n_step\n"):
        recipe_of(name, ["n_step=3"])
    with pytest.raises(AsrbuildError, match="n_steps=x has the wrong type"):
        recipe_of(name, ["n_steps=x"])
    with pytest.raises(AsrbuildError, match=r"source\.path was graph\.pb") as raised:
        recipe_of(name, ["source.path=graph.pb"])
    assert "source.path=PATH" in str(raised.value.fix)
