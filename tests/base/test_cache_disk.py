"""The cache and the store on a real full disk, a read-only disk and under a file size limit."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Runs in its own mount namespace: `disk` is a memory disk of 2 MB that ends with the process.
PRELUDE = """
import os, subprocess, sys
from pathlib import Path
from asrbuild.base import cache_cleanup
from asrbuild.artifact import integrity, lookup, store
from asrbuild.base.cache import StageKey, run_stage
from asrbuild.base.errors import AsrbuildError

disk = Path(sys.argv[1])

def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)

def key(number=0):
    return StageKey("convert", 1, {"n": number}, {}, {})

def writer(megabytes):
    def build(directory):
        for index in range(megabytes):
            (directory / str(index)).write_bytes(os.urandom(1 << 20))
    return build

def refused(action):
    try:
        action()
    except AsrbuildError as error:
        return error
    raise SystemExit("nothing was refused")

def publish(kilobytes, version="1+a"):
    with store.staging(disk / "artifacts") as directory:
        (directory / "weights.bin").write_bytes(b"w" * (kilobytes << 10))
        (directory / "manifest.json").write_text("{}")
        return store.publish(disk / "artifacts", "a", directory, version)

def names():
    found = (disk / "cache").rglob("*") if (disk / "cache").exists() else []
    return sorted(str(p.relative_to(disk / "cache")) for p in found if p.is_file())
"""


def run_on_a_disk(tmp_path: Path, code: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        if subprocess.run(probe, capture_output=True).returncode != 0:
            pytest.skip("this user may not mount a small disk in a namespace")
    except FileNotFoundError:
        pytest.skip("there is no unshare command here")
    mount = 'mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk))\n'
    command = ["unshare", "--mount", sys.executable, "-c", PRELUDE + mount + code, str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_build_reports_a_full_disk_and_leaves_nothing(tmp_path: Path) -> None:
    run_on_a_disk(
        tmp_path,
        """
error = refused(lambda: run_stage(disk / "cache", key(), writer(5), notify=print))
assert error.message == "no space is left on the disk, while building the stage convert", error
assert "asrbuild cache remove" in error.fix
assert str(disk) in error.file
assert names() == [], names()
assert not run_stage(disk / "cache", key(), writer(1), notify=print).hit
assert run_stage(disk / "cache", key(), writer(1), notify=print).hit
""",
    )


def test_a_librarys_own_error_for_a_full_disk_is_recognised(tmp_path: Path) -> None:
    run_on_a_disk(
        tmp_path,
        """
def build(directory):
    try:
        writer(5)(directory)
    except OSError:
        raise RuntimeError("Unable to write blob")

error = refused(lambda: run_stage(disk / "cache", key(), build, notify=print))
assert error.message.startswith("no space is left on the disk"), error
assert names() == [], names()
""",
    )


def test_a_disk_without_room_for_a_lock_is_reported(tmp_path: Path) -> None:
    run_on_a_disk(
        tmp_path,
        """
run_stage(disk / "cache", key(), writer(1), notify=print)
filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
try:
    while os.write(filler, b"0" * 4096):
        pass
except OSError:
    os.close(filler)
before = names()
error = refused(lambda: run_stage(disk / "cache", key(2), writer(1), notify=print))
assert "no space is left on the disk" in error.message, error
assert run_stage(disk / "cache", key(), writer(1), notify=print).hit
assert [n for n in names() if n not in before and not n.startswith(".locks")] == [], names()
(disk / "filler").unlink()
assert not run_stage(disk / "cache", key(2), writer(0), notify=print).hit
assert not [n for n in names() if n.startswith(".locks")], names()
""",
    )


def test_publishing_on_a_full_disk_keeps_the_store(tmp_path: Path) -> None:
    run_on_a_disk(
        tmp_path,
        """
first = publish(800, "1+a")
def too_large():
    try:
        publish(3000, "2+b")
    except OSError as error:  # the engine's own copying; publish never saw the directory
        from asrbuild.base.disk import disk_problem
        raise disk_problem(error, "putting the artifact together", disk)
error = refused(too_large)
assert "no space is left on the disk" in error.message, error
assert [a.version for a in lookup.list_artifacts(disk / "artifacts")] == ["1+a"]
assert lookup.read_latest(disk / "artifacts", "a") == "1+a"
assert integrity.verify_files(first) == []
assert os.listdir(disk / "artifacts") == ["a"], os.listdir(disk / "artifacts")
publish(800, "3+c")
""",
    )


def test_a_read_only_disk_serves_hits_and_reports_misses(tmp_path: Path) -> None:
    run_on_a_disk(
        tmp_path,
        """
path = run_stage(disk / "cache", key(), writer(1), notify=print).path
artifact = publish(10)
mount("-o", "remount,ro", str(disk))
assert run_stage(disk / "cache", key(), writer(1), notify=print).hit
assert run_stage(disk / "cache", key(), writer(1), notify=print, verify=True).hit
assert lookup.resolve(disk / "artifacts", "a") == artifact
assert integrity.verify_files(artifact) == []
store.point_latest(disk / "artifacts", "a", "1+a")

error = refused(lambda: run_stage(disk / "cache", key(2), writer(1), notify=print))
assert "is on a read-only file system, while building the stage convert" in error.message, error
error = refused(lambda: publish(10, "2+b"))
assert "is on a read-only file system, while preparing an artifact" in error.message, error
assert error.fix == "choose a directory you can write to, or change its permissions"
error = refused(lambda: cache_cleanup.clear(disk / "cache"))
assert "read-only file system" in error.message, error

mount("-o", "remount,rw", str(disk))
(path / "0").write_bytes(b"")
mount("-o", "remount,ro", str(disk))
error = refused(lambda: run_stage(disk / "cache", key(), writer(1), notify=print))
assert "read-only file system" in error.message, error
""",
    )


def limited(code: str, directory: Path, limit: Callable[[], None]) -> None:
    command = [sys.executable, "-c", PRELUDE + code, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_size_limit_needs_no_privileges(tmp_path: Path) -> None:
    """The system refuses a write half-way, as on a full disk, on any machine."""
    limited(
        """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
error = refused(lambda: run_stage(disk / "cache", key(), writer(1), notify=print))
assert error.message.startswith("the file is larger than this system allows"), error
assert names() == [], names()
""",
        tmp_path,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
