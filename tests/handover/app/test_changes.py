"""The reading of a run of Swift's tests in ``benchmarks/app_kit``, and its changes to the code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from asrbuild.handover.app.kit import TEMPLATES
from benchmarks.app_kit.swift_tests import BrokenError, Fault, Finished, finish, read_tests
from tests.handover.app.changes import CODE

STARTED = "Test Case 'A.testOne' started at 2026-11-26 23:03:24.431\n"
PASSED = STARTED + "Test Case 'A.testOne' passed (0.5 seconds)\n"
OTHER = "Test Case 'A.testTwo' started at 2026-11-26 23:03:24.931\n"
FAILED = "Test Case 'A.testTwo' failed (0.1 seconds)\n"
SKIPPED = "Test Case 'A.testTwo' skipped (0.0 seconds)\n"


@pytest.mark.parametrize(
    ("code", "output", "fault"),
    [
        (0, PASSED, None),
        (1, PASSED + OTHER + FAILED, Fault("A.testTwo", "fails")),
        (1, PASSED + OTHER, Fault("A.testTwo", "ends with signal 4")),
        (None, PASSED + OTHER, Fault("A.testTwo", "does not end in 60 s")),
    ],
)
def test_a_test_that_fails_crashes_or_hangs_is_a_fault(
    code: int | None, output: str, fault: Fault | None
) -> None:
    crashed = fault is not None and "signal" in fault.what
    error = "error: Exited with unexpected signal code 4\n" if crashed else ""
    ran = read_tests(Finished(code, output, error, 60))
    assert (ran.passed, ran.fault) == ({"A.testOne": 0.5}, fault)


@pytest.mark.parametrize(
    ("code", "output", "error"),
    [
        (1, "", "error: no such module"),
        (0, "warning: No matching test cases were run", ""),
        (0, PASSED + OTHER + SKIPPED, ""),
        (1, PASSED, "error: the package does not build"),
        (1, PASSED + OTHER, "error: Exited with unexpected signal code 9"),
        (None, "[0/1] Planning build", ""),
    ],
)
def test_a_run_that_breaks_is_no_fault(code: int | None, output: str, error: str) -> None:
    with pytest.raises(BrokenError):
        read_tests(Finished(code, output, error, 60))


def test_a_run_that_hangs_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    inner = "import os, time; os.setpgid(0, 0); open('pid', 'w').write(str(os.getpid())); "
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]]); print(1)"
    command = [sys.executable, "-c", outer, inner + "time.sleep(600)"]
    done = finish(command, 4, {}, tmp_path)
    # What the first process prints after that is kept.
    assert (done.code, done.out) == (None, "1\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_every_change_applies_to_the_code() -> None:
    sources = TEMPLATES / "ASRKit" / "Sources"
    for number, change in enumerate(CODE):
        text = (sources / change.file).read_text()
        assert f"Seed.on({number})" in change.seeded(text, number)
