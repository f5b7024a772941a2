"""The engine's concurrent work: the original's early start, the vectors, and a stage alone."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from asrbuild.architectures import original
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder import assemble, engine, plan as planning
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.plan import PlanStep
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.run import Attempt
from asrbuild.builder.stage import View
from asrbuild.builder.stages import vectors


def composed(at: Path, *overrides: str) -> Recipe:
    places = [f"paths.cache={at / 'cache'}", f"paths.artifacts={at / 'artifacts'}"]
    return compose_recipe(["model=static", "verify.witness=off", *places, *overrides])


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


def test_the_vectors_have_one_thread_and_the_evaluation_has_all_and_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits of vectors are published, and the evaluation's speed is."""
    order: list[tuple[str, set[int]]] = []
    run = Attempt._run

    def recorded(self: Attempt, step: PlanStep, folders: Any) -> Path:
        order.append((f"begin {step.stage.name}", threads()))
        if step.stage is vectors.STAGE:
            time.sleep(5)  # longer than the original takes
        path = run(self, step, folders)
        order.append((f"end {step.stage.name}", threads()))
        return path

    def threads() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    monkeypatch.setattr(Attempt, "_run", recorded)
    with threadpool_limits(2, user_api="blas"):
        engine.build(composed(tmp_path, "verify.evaluation=demo:dev/dev.csv"))
        assert threads() == {2}
    names = [name for name, _ in order]
    assert names.index("end prove") < names.index("end vectors")
    assert names.index("end vectors") < names.index("begin evaluate")
    found = dict(order)
    assert found["begin vectors"] == found["end vectors"] == {1}
    assert found["begin evaluate"] == found["end evaluate"] == {2}
