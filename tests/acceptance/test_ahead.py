"""The second process of a sweep: what it makes is taken, and nothing else tells of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from asrbuild.artifact import lookup
from asrbuild.base import cache
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder import ahead, engine
from asrbuild.builder.recipe import Recipe
from tests import forking

LAST = 20
SWEEP = ["-m", "model=dynamic_to_static", f"n_steps=4,8,12,{LAST}", "verify=quick", "--json"]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the process is a fork, on Linux only"
)


def finish_first(folder: Path, output: Path) -> None:
    """The sweep, which goes on after its first job when the second process is done.

    That process fails at the last job, and makes what the others need.
    """
    begin, make = ahead.begin, engine.make_ahead

    def begin_and_wait(after: int, package_bytes: int, varied: Sequence[str]) -> None:
        begin(after, package_bytes, varied)
        if after == 0:
            os.waitid(os.P_PID, ahead._process or 0, os.WEXITED | os.WNOWAIT)

    def fail_once(recipe: Recipe) -> None:
        if recipe.n_steps == LAST:
            raise AsrbuildError("the second process has no memory")
        make(recipe)

    ahead.begin, engine.make_ahead = begin_and_wait, fail_once
    forking.run_ahead(folder, SWEEP, output)


def test_jobs_take_what_is_made_ahead(tmp_path: Path) -> None:
    process = forking.context().Process(target=finish_first, args=(tmp_path, tmp_path / "log"))
    process.start()
    process.join(120)
    lines = (tmp_path / "log").read_text().splitlines()
    assert process.exitcode == 0, lines
    events = [json.loads(line) for line in lines]
    there = [event["job"] for event in events if event.get("text", "").endswith("already there")]
    # The first job made three results that all share. The sweep makes the second job itself.
    assert Counter(there) == {1: 3, 2: 6, 3: 3}
    # The jobs report as ever, in their order.
    assert [e["job"] for e in events if e["event"] == "job"] == [0, 1, 2, 3]
    assert {job["status"] for job in events[-1]["jobs"]} == {"built"}
    assert len(list(lookup.list_artifacts(tmp_path / "artifacts"))) == 4
    root = tmp_path / ".asrbuild" / "cache"
    assert not [*(root / cache.BUILDING).iterdir(), *(root / cache.LOCKS).iterdir()]


def interrupt_after_first(folder: Path, output: Path) -> None:
    """The sweep, which Ctrl-C interrupts when its second process has begun a stage."""
    begin = ahead.begin

    def begin_and_interrupt(after: int, package_bytes: int, varied: Sequence[str]) -> None:
        begin(after, package_bytes, varied)
        building = folder / ".asrbuild" / "cache" / cache.BUILDING
        while not list(building.iterdir()):
            time.sleep(0.01)
        os.killpg(0, signal.SIGINT)
        time.sleep(60)

    ahead.begin = begin_and_interrupt
    forking.run_ahead(folder, SWEEP, output)


def test_ctrl_c_ends_both_processes(tmp_path: Path) -> None:
    process = forking.context().Process(
        target=interrupt_after_first, args=(tmp_path, tmp_path / "log")
    )
    process.start()
    process.join(120)
    assert process.exitcode == 130, (tmp_path / "log").read_text()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid or 0, 0)
    assert len(list(lookup.list_artifacts(tmp_path / "artifacts"))) == 1
    root = tmp_path / ".asrbuild" / "cache"
    cache.sweep(root)  # as the next build does: a mark may stay where the signal came between
    assert not [*(root / cache.BUILDING).iterdir(), *(root / cache.LOCKS).iterdir()]
