"""``import asrbuild`` in a program, and the lines that ``--json`` writes while a build runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import asrbuild
from tests.acceptance.conftest import run_asrbuild
from tests.imports import run_python
from tests.paths import DEMO, SAMPLE_TEXT

QUICK = ("model=static", "verify=quick", "verify.witness=off")
STAGES = {"export", "cases", "reference", "convert", "execute", "vectors", "prove", "artifact"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for artifacts and a cache."""
    return tmp_path_factory.mktemp("store")


def composed(store: Path, *overrides: str) -> asrbuild.Recipe:
    paths = (f"paths.artifacts={store}/artifacts", f"paths.cache={store}/cache")
    return asrbuild.compose(*QUICK, *paths, *overrides)


def test_plan_build_and_transcribe(tmp_path: Path) -> None:
    recipe = composed(tmp_path)
    planned = asrbuild.plan(recipe)
    assert not planned.published
    assert {stage.stage for stage in planned.stages} == STAGES
    assert not any(stage.cached for stage in planned.stages)

    events: list[asrbuild.Event] = []
    built = asrbuild.build(recipe, events.append)
    for kind in ("started", "finished"):
        assert {event.stage for event in events if event.kind == kind} == STAGES
    assert all((event.seconds or 0) >= 0 for event in events)
    assert built.path.is_dir()
    assert built.receipt.transcripts_match

    assert asrbuild.plan(recipe).published
    events.clear()
    assert asrbuild.build(recipe, events.append).stages == ()
    assert events == []

    heard: list[str] = []
    with asrbuild.open_artifact(recipe.name, tmp_path / "artifacts") as model:
        assert isinstance(model, asrbuild.Transcriber)
        assert model.transcribe_file(DEMO / "sample.wav", heard.append).text == SAMPLE_TEXT
    assert heard[-1] == SAMPLE_TEXT


def test_bad_calls_raise_one_error(store: Path) -> None:
    with pytest.raises(asrbuild.AsrbuildError, match="n_stepz"):
        asrbuild.compose("n_stepz=3")
    with pytest.raises(asrbuild.AsrbuildError) as caught:
        asrbuild.build(composed(store, "source=checkpoint", "source.checkpoint_dir=none"))
    assert caught.value.key == "source.checkpoint_dir"
    with pytest.raises(asrbuild.AsrbuildError, match="nothing"):
        asrbuild.open_artifact("nothing", store / "artifacts")
    with pytest.raises(AttributeError, match="no attribute 'builds'"):
        asrbuild.builds  # type: ignore[attr-defined]  # noqa: B018 - it must raise


def test_the_import_loads_no_heavy_library() -> None:
    _, modules = run_python("import asrbuild; dir(asrbuild)")
    assert not modules & {"numpy", "pydantic", "tensorflow", "coremltools", "hydra", "rich"}
    assert set(asrbuild.__all__) <= set(dir(asrbuild))


def lines(text: str) -> list[dict[str, object]]:
    """The output's lines as JSON objects."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_build_writes_lines_of_json(store: Path) -> None:
    paths = (f"paths.artifacts={store}/artifacts", f"paths.cache={store}/cache")
    done = run_asrbuild(*QUICK, "n_steps=24", *paths, "--json", cwd=store)
    assert done.code == 0, done.err
    *events, result = lines(done.out)
    assert {event["event"] for event in events} <= {"started", "finished", "note"}
    assert {"convert", "prove", "artifact"} <= {e["stage"] for e in events if "stage" in e}
    assert result["event"] == "built"
    assert Path(str(result["path"])).is_dir()
    assert result["transcripts_match"] is True
    assert "done" not in done.err

    quiet = run_asrbuild("-q", *QUICK, "n_steps=24", "coreml.precision=fp32", *paths, cwd=store)
    assert quiet.code == 0, quiet.err
    assert "convert" not in quiet.err
    assert "as spoken, word for word" in quiet.out


def test_a_sweep_and_a_failure_write_lines_of_json(store: Path) -> None:
    paths = (f"paths.artifacts={store}/artifacts", f"paths.cache={store}/cache")
    assert run_asrbuild(*QUICK, *paths, cwd=store).code == 0
    done = run_asrbuild("--json", "-m", *QUICK, "n_steps=16,0", *paths, cwd=store)
    assert done.code == 1
    *events, result = lines(done.out)
    assert {event["job"] for event in events} == {0, 1}
    jobs = result["jobs"]
    assert isinstance(jobs, list)
    assert result["event"] == "swept"
    assert [job["status"] for job in jobs] == ["unchanged", "failed"]
    assert "n_steps" in jobs[1]["error"]

    failed = run_asrbuild("--json", *QUICK, "n_steps=0", *paths, cwd=store)
    assert failed.code == 1
    (event,) = lines(failed.out)
    assert event["event"] == "failed"
    assert event["key"] == "n_steps"
    assert "n_steps" in failed.err
