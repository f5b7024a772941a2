"""Ctrl-C and signals end a build with all its processes, and leave nothing behind."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import golden
from tests.acceptance.conftest import assert_nothing_was_published


def start_build(at: Path, *overrides: str, **options: Any) -> subprocess.Popen[str]:
    """Starts a build and returns in its reference stage, with TensorFlow in another process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asrbuild.cli.main", *overrides],
        cwd=at,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    building = at / ".asrbuild" / "cache" / ".building"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(building.glob("reference-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    # At a random moment of the stage: an interrupted import must not block the other thread.
    time.sleep(random.uniform(0, 0.5))
    return process


def alive(mark: str) -> list[str]:
    """The command lines of the processes that have ``mark`` in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with suppress(OSError):
                if mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("overrides", [["model=static"], ["-m", "model=static,dynamic"]])
def test_control_c_in_a_build_leaves_nothing(overrides: list[str], at: Path) -> None:
    process = start_build(at, *overrides)
    # Ctrl-C in a terminal interrupts the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert ("interrupted" in out) == ("-m" in overrides), "a sweep's table says it of the job"
    assert "interrupted" in err
    assert "Traceback" not in err
    golden.check_error(f"SIGINT {' '.join(overrides)}", process.returncode, err, at)
    assert_nothing_was_published(at)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_a_build_ends_all_its_processes(number: int, at: Path) -> None:
    mark = f"ASRBUILD_TEST_MARK={secrets.token_hex(16)}"
    process = start_build(at, "model=static", env=os.environ | dict([mark.split("=")]))
    os.kill(process.pid, number)  # a service manager ends the process, not its group
    _, err = process.communicate(timeout=120)
    deadline = time.monotonic() + 30
    while (left := alive(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    if number == signal.SIGKILL:  # the next build removes unfinished files
        return
    assert_nothing_was_published(at)
    assert process.returncode == 128 + number
    golden.check_error(signal.Signals(number).name, process.returncode, err, at)
    assert f"error: ended by {signal.Signals(number).name}; nothing incomplete was kept" in err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_build_under_nohup_continues(at: Path) -> None:
    process = start_build(
        at, "model=static", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    os.kill(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
