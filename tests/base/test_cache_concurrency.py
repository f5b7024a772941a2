"""Real processes on one cache: races, kills at any moment, and locks of dead processes."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asrbuild.artifact import integrity, lookup
from asrbuild.base import cache, cache_cleanup, locks
from asrbuild.base.cache import StageKey
from tests import forking
from tests.base import cache_worker
from tests.killing import seeded

STAGES = ("source", "export", "convert")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def run(tag: str, *options: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, cache_worker.__file__]
        command += [str(tmp_path), str(tmp_path / "log"), tag, *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def log(root: Path) -> list[tuple[str, str, str]]:
    """(start or end, stage, tag) for every piece of work done."""
    if not (root / "log").exists():
        return []
    lines = [line.split() for line in (root / "log").read_text().splitlines()]
    return [(what, stage, tag) for what, stage, tag, _ in lines]


def starts(root: Path) -> Counter[tuple[str, str]]:
    return Counter((stage, tag) for what, stage, tag in log(root) if what == "start")


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def assert_tidy(root: Path) -> None:
    for folder in ("cache/.building", "cache/.locks"):
        assert list((root / folder).iterdir()) == []
    assert [path.name for path in (root / "artifacts").iterdir()] == ["killed"]


def test_six_processes_build_one_entry_once(tmp_path: Path, start: Start) -> None:
    racers = [start("race", "--slow", "0.5") for _ in range(6)]
    outputs = [finish(process) for process in racers]
    assert starts(tmp_path) == {(stage, "race"): 1 for stage in STAGES}
    for stage in STAGES:
        assert sum(f"built {stage}" in output for output in outputs) == 1
    waited = [output for output in outputs if "is building the same thing; waiting" in output]
    assert waited
    assert_tidy(tmp_path)
    (artifact,) = lookup.list_artifacts(tmp_path / "artifacts")
    assert integrity.verify_files(artifact.path) == []


def test_threads_of_one_process_build_once(tmp_path: Path) -> None:
    builds: list[Path] = []

    def build(directory: Path) -> None:
        builds.append(directory)
        time.sleep(0.2)
        (directory / "x").write_text("x")

    def run() -> None:
        cache.run_stage(tmp_path, StageKey("s", 1, {}, {}, {}), build, notify=lambda _: None)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


def whole_entries(root: Path, tag: str) -> set[str]:
    """The stages whose entries are visible for a tag; every byte of them is compared."""
    found = [e for e in cache_cleanup.list_entries(root / "cache") if e.key.keys["tag"] == tag]
    for entry in found:
        assert cache.entry_problem(root / "cache", entry.path, verify=True) is None
    return {entry.stage for entry in found}


def test_kills_at_random_moments_leave_whole_entries(tmp_path: Path) -> None:
    """After each of fifty kills all visible entries are whole; finished work is not done again."""
    moments = seeded(20260)

    def start(tag: str) -> multiprocessing.process.BaseProcess:
        process = forking.context().Process(
            target=cache_worker.run, args=(tmp_path, tmp_path / "log", tag)
        )
        process.start()
        return process

    kills = rounds = 0
    killed_after: Counter[int] = Counter()
    while kills < 50:
        tag = f"round{rounds}"
        finished: dict[str, int] = {}  # stage -> how often it was started until it was whole
        exitcode = None
        patience = 0.03  # s; grows, so that a busy machine finishes as well
        while exitcode != 0:
            process = start(tag)
            # The kill comes after a random part of the remaining work, and a little later.
            pieces = len(log(tmp_path)) + moments.randint(0, 2 * (len(STAGES) - len(finished)))
            wait_for(lambda: not process.is_alive() or len(log(tmp_path)) >= pieces)  # noqa: B023
            process.join(moments.uniform(0, patience))
            patience *= 1.2
            process.kill()
            process.join()
            exitcode = process.exitcode
            assert exitcode in (0, -signal.SIGKILL)
            kills += exitcode != 0
            killed_after[len(finished)] += exitcode != 0
            work = starts(tmp_path)
            for stage, count in finished.items():
                assert work[stage, tag] == count, f"{stage} was built again"
            finished = {stage: work[stage, tag] for stage in whole_entries(tmp_path, tag)}
            for artifact in lookup.list_artifacts(tmp_path / "artifacts"):
                if artifact.version == f"1+{tag}":
                    assert integrity.verify_files(artifact.path) == []
        assert sorted(finished) == sorted(STAGES)
        rounds += 1
    # Kills happened in every stage and in the publication.
    assert set(killed_after) == {0, 1, 2, 3}, killed_after
    cache_worker.run(tmp_path, tmp_path / "log", "last")
    versions = {artifact.version for artifact in lookup.list_artifacts(tmp_path / "artifacts")}
    assert versions == {"1+last", *(f"1+round{n}" for n in range(rounds))}
    assert_tidy(tmp_path)
    for stage in STAGES:
        files = [*tmp_path.glob(f"cache/{stage}/*/sub/0.bin")]
        files += tmp_path.glob("artifacts/*/*/0.bin") if stage == "convert" else ()
        (names,) = {(file.stat().st_ino, file.stat().st_nlink) for file in files}
        assert names[1] == len(files), "a killed process left a name"


def kill_while_building(root: Path, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: bool(starts(root)))
    process.kill()
    process.wait()
    assert list((root / "cache" / ".building").iterdir())
    assert list((root / "cache" / ".locks").iterdir())


def test_a_lock_left_by_a_dead_process_here_is_taken_at_once(tmp_path: Path, start: Start) -> None:
    kill_while_building(tmp_path, start("stale", "--slow", "30"))
    begin = time.monotonic()
    finish(start("stale"))
    assert time.monotonic() - begin < 15
    assert_tidy(tmp_path)


@pytest.fixture
def on_another_host() -> tuple[str, ...]:
    """A command prefix that gives a process a host name of its own."""
    prefix = ("unshare", "--uts", "sh", "-c", 'hostname far-away && exec "$@"', "sh")
    try:
        probe = subprocess.run([*prefix, "hostname"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare command here")
    if probe.stdout.strip() != "far-away":
        pytest.skip("this user may not make a namespace with another host name")
    return prefix


@pytest.mark.parametrize("options", [(), ("--no-flock",)])
def test_leftovers_of_another_machine_stay_for_a_day(
    tmp_path: Path, start: Start, on_another_host: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Kernel locks may not reach that machine, so its build may be in progress."""
    far = start("far", "--slow", "30", *options, prefix=on_another_host)
    wait_for(lambda: bool(starts(tmp_path)))
    far.kill()
    far.wait()
    (leftover,) = (tmp_path / "cache" / ".building").glob("source-*")
    for tag in ("far", "other"):
        finish(start(tag, *options))
        assert leftover.exists()
    long_ago = time.time() - 2 * locks.ABANDONED_SECONDS
    os.utime(leftover, (long_ago, long_ago))
    finish(start("another", *options))
    assert not leftover.exists()
    assert_tidy(tmp_path)


def test_a_folder_without_kernel_locks_may_have_double_work_but_no_failure(
    tmp_path: Path, start: Start
) -> None:
    racers = [start("race", "--slow", "0.5", "--no-flock") for _ in range(3)]
    for process in racers:
        finish(process)
    assert set(starts(tmp_path)) == {(stage, "race") for stage in STAGES}
    (artifact,) = lookup.list_artifacts(tmp_path / "artifacts")
    assert integrity.verify_files(artifact.path) == []
    assert_tidy(tmp_path)
    assert cache_cleanup.clear(tmp_path / "cache") > 0
    assert cache_cleanup.list_entries(tmp_path / "cache") == []


def test_files_from_the_future_are_hits_and_damage_in_them_is_found(tmp_path: Path) -> None:
    """A machine with a fast clock wrote the cache; age decides nothing."""
    key = StageKey("convert", 1, {}, {}, {})
    said: list[str] = []

    def build(directory: Path) -> None:
        (directory / "weights.bin").write_bytes(b"1" * 400_000)

    path = cache.run_stage(tmp_path, key, build, notify=said.append).path
    future = time.time() + 10 * 365 * 86400
    for item in (path, *path.iterdir()):
        os.utime(item, (future, future))
    assert cache.run_stage(tmp_path, key, build, notify=said.append).hit
    (path / "weights.bin").write_bytes(b"2" * 400_000)
    os.utime(path / "weights.bin", (future, future))
    assert not cache.run_stage(tmp_path, key, build, notify=said.append).hit
    assert "weights.bin was changed" in said[0]


def test_clearing_keeps_entries_that_are_being_built(tmp_path: Path, start: Start) -> None:
    process = start("busy", "--slow", "1")
    wait_for(lambda: ("end", "source", "busy") in log(tmp_path))
    wait_for(lambda: ("start", "export", "busy") in log(tmp_path))
    cache_cleanup.clear(tmp_path / "cache")
    assert cache_cleanup.list_entries(tmp_path / "cache") == []
    finish(process)
    assert {entry.stage for entry in cache_cleanup.list_entries(tmp_path / "cache")} >= {"export"}
