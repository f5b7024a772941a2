"""The engine's concurrent work: the original's early start, the vectors, and a stage alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asrbuild.architectures import original
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import Progress
from asrbuild.base.threads import workers
from asrbuild.builder import assemble, engine, plan as planning
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.plan import plan
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.run import Attempt
from asrbuild.builder.sources import settle
from asrbuild.builder.stage import View
from asrbuild.builder.stages import evaluate, vectors


def composed(at: Path) -> Recipe:
    places = [f"paths.cache={at / 'cache'}", f"paths.artifacts={at / 'artifacts'}"]
    return compose_recipe(["model=static", "verify.witness=off", *places])


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes of originals that are started."""
    processes: list[Any] = []
    begin = original._begin

    def recorded(module: str) -> Any:
        worker = begin(module)
        processes.append(worker[0])
        return worker

    monkeypatch.setattr(original, "_begin", recorded)
    return processes


@pytest.mark.parametrize(("results", "early"), [([], 1), (["reference"], 0)])
def test_an_empty_cache_starts_the_original_before_the_source_is_read(
    results: list[str],
    early: int,
    begun: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(*_: object) -> None:
        assert len(begun) == early
        raise AsrbuildError("the source cannot be read")

    monkeypatch.setattr(engine, "settle", unreadable)
    for name in results:
        (tmp_path / "cache" / name).mkdir(parents=True)
    with pytest.raises(AsrbuildError, match="the source cannot be read"):
        engine.build(composed(tmp_path))
    assert [process.poll() for process in begun] == [-9] * early
    assert not (tmp_path / "artifacts").exists()


def test_a_build_starts_the_original_once(begun: list[Any], tmp_path: Path) -> None:
    built = engine.build(composed(tmp_path))
    assert "vectors" in built.stages
    assert [process.poll() for process in begun] == [0]


def test_vectors_that_fail_while_the_artifact_is_assembled_publish_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = threading.Event()
    write = assemble._write_reports

    def reporting(*given: Any) -> None:
        write(*given)
        reported.set()

    def fail(view: View, at: Path) -> None:
        del view, at
        assert reported.wait(120)
        raise AsrbuildError("no vectors")

    failing = replace(vectors.STAGE, run=fail)
    stages = tuple(failing if stage is vectors.STAGE else stage for stage in planning.STAGES)
    monkeypatch.setattr(planning, "STAGES", stages)
    monkeypatch.setattr(assemble, "_write_reports", reporting)
    with pytest.raises(AsrbuildError, match="no vectors"):
        engine.build(composed(tmp_path))
    assert [path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


def test_the_evaluation_waits_for_every_stage_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its speed is published, and the vectors would share the processors with it."""
    recipe, source = settle(composed(tmp_path), tmp_path / "cache")
    planned = plan(recipe, source)
    computed = threading.Event()
    order: list[str] = []

    def compute(view: View, at: Path) -> None:
        del view, at
        assert computed.wait(60)
        order.append("vectors")

    def measure(view: View, at: Path) -> None:
        del view, at
        order.append("evaluate")

    step = planned.steps[0]
    threaded = replace(vectors.STAGE, run=compute, after=())
    alone = replace(evaluate.STAGE, run=measure, after=())
    steps = [
        replace(step, stage=stage, key=replace(step.key, stage=stage.name), after=())
        for stage in (threaded, alone)
    ]
    run = Attempt(replace(planned, steps=tuple(steps)), Progress(on_event=quiet), None, [])
    with workers(1) as threads:
        run.start(steps[0], threads)
        threading.Timer(0.2, computed.set).start()
        run.start(steps[1], threads)
    assert order == ["vectors", "evaluate"]


def quiet(event: object) -> None:
    del event
