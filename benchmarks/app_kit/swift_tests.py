"""Runs of Swift programs that may crash or never end, and the results of ``swift test``.

A test that fails, ends its process or does not end is a fault. A run without one must have passed
tests; all else, such as a missing toolchain, is :class:`BrokenError`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TEST = re.compile(
    r"Test Case '(\w+\.\w+)' (?:(started|skipped)|(passed|failed) \(([\d.]+) seconds\))"
)
_SIGNAL = re.compile(r"unexpected signal code (\d+)")
_running: set[int] = set()
_lock = threading.Lock()
_ending = threading.Event()


class BrokenError(Exception):
    """A run that shows nothing: neither that tests pass nor that one fails."""


@dataclass(frozen=True)
class Finished:
    """A program's exit code, below 0 for a signal, None if it took longer than its limit."""

    code: int | None
    out: str
    err: str
    limit: float


@dataclass(frozen=True)
class Fault:
    """The test that a run stopped at or that failed first, and its failure."""

    test: str
    what: str


def finish(
    command: list[str], limit: float, env: Mapping[str, str], cwd: Path | None = None
) -> Finished:
    """Runs a program; ends it, with every process that it started, after ``limit`` seconds."""
    if _ending.is_set():
        raise BrokenError("the measurement ends")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | env,
        cwd=cwd,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with _lock:
        _running.add(process.pid)
    code: int | None = None
    try:
        out, err = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _end([process.pid], children=True)
        try:
            # ``swift test`` prints the lines of the tests when their process has ended.
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            _end([process.pid])
            out, err = process.communicate()
    finally:
        with _lock:
            _running.discard(process.pid)
    if _ending.is_set():
        raise BrokenError("the measurement ends")
    return Finished(code, out, err, limit)


def end_all() -> None:
    """Ends the programs that run; no other starts."""
    _ending.set()
    with _lock:
        _end(list(_running))


def _end(sessions: Iterable[int], children: bool = False) -> None:
    """Kills sessions, or all in them but the first process of each.

    ``swift test`` runs the tests in a process group of their own, but in its session.
    """
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True
    ).stdout
    for pid in map(int, listed.split()):
        try:
            if os.getsid(pid) in sessions and not (children and pid in sessions):
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@dataclass(frozen=True)
class Ran:
    """The tests that passed and their seconds, and the fault of the run."""

    passed: dict[str, float]
    fault: Fault | None


def read_tests(done: Finished) -> Ran:
    """The results of ``swift test``.

    Raises:
        BrokenError: no test ran, some were skipped, or the program failed outside of a test.
    """
    output = done.out + done.err
    passed: dict[str, float] = {}
    failed, skipped, open_test = "", [], ""
    for name, begun, end, seconds in _TEST.findall(output):
        open_test = name if begun == "started" else ""
        if begun == "skipped":
            skipped.append(name)
        elif end == "passed":
            passed[name] = float(seconds)
        elif end == "failed":
            failed = failed or name
    ended = _SIGNAL.search(output)
    fault = None
    if failed:
        fault = Fault(failed, "fails")
    elif open_test and done.code is None:
        fault = Fault(open_test, f"does not end in {done.limit:.0f} s")
    elif open_test and ended and int(ended[1]) != signal.SIGKILL:
        fault = Fault(open_test, f"ends with signal {ended[1]}")
    elif done.code != 0 or skipped or not passed:
        what = f"exit code {done.code}, {len(passed)} tests passed, skipped: {skipped}"
        raise BrokenError(f"swift test: {what}\n{output[-3000:]}")
    return Ran(passed, fault)
