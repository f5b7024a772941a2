"""Builds of the demo model on a real, small disk: filled in each stage, then read-only.

    unshare --mount python -m tests.acceptance.small_disk DISK

Runs in a mount namespace of its own; the disk is memory and gone with the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from asrbuild.artifact import lookup
from asrbuild.cli import main as cli
from tests import preloaded  # noqa: F401
from tests.acceptance.conftest import Finished

STAGES = ("export", "cases", "reference", "convert", "execute", "vectors", "prove", "artifact")
TENSORFLOW = ("coreml.frontend=tensorflow", "coreml.lstm=loop")
#: (stage that meets the full disk, overrides, where the temporary files are)
FULL = [
    *((stage, (), "elsewhere") for stage in STAGES),
    ("convert", ("coreml=neuralnetwork",), "elsewhere"),
    ("convert", TENSORFLOW, "here"),
]
#: Room for locks, but not for a stage's result.
ROOM = 60 << 10


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def build(disk: Path, *overrides: str, temporary: Path | None = None) -> Finished:
    """Runs ``asrbuild model=static ...`` in a fork of this process, whose imports are done."""
    with tempfile.TemporaryFile("w+") as log:
        if not (child := os.fork()):
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            if temporary is not None:
                tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
            paths = f"paths.cache={disk}/cache", f"paths.artifacts={disk}/store"
            sys.argv = ["asrbuild", "model=static", "verify=quick", *paths, *overrides]
            try:
                cli.main()
            except SystemExit as left:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(left.code or 0))
        _, status = os.waitpid(child, 0)
        log.seek(0)
        text = log.read()
    return Finished(os.waitstatus_to_exitcode(status), text, text)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(b"0" * 65536)
    os.truncate(filler, filler.stat().st_size - ROOM)
    return filler


def leftovers(disk: Path) -> list[Path]:
    return [
        *disk.glob("cache/.building/*"),
        *disk.glob("cache/.locks/*"),
        *disk.glob("store/.staging*"),
    ]


def forget(disk: Path, stage: str) -> None:
    """Removes the store and the results of ``stage`` and of those after it."""
    later = STAGES[STAGES.index(stage) + 1 :]
    concurrent = {"convert", "execute", "vectors"} if stage == "reference" else set()
    for name in {stage, *later} - concurrent:
        shutil.rmtree(disk / "cache" / name, ignore_errors=True)
    if (disk / "store").exists():
        subprocess.run(["chmod", "-R", "u+w", str(disk / "store")], check=True)
        shutil.rmtree(disk / "store")


def full(disk: Path) -> None:
    for stage, overrides, temporary in FULL:
        whole = build(disk, *overrides)
        assert whole.code == 0, whole.err
        versions = [artifact.version for artifact in lookup.list_artifacts(disk / "store")]
        forget(disk, stage)
        filler = fill(disk)
        refused = build(disk, *overrides, temporary=disk if temporary == "here" else None)
        told = f"{stage} {overrides} {temporary}: {refused.err}"
        assert refused.code == 1, told
        assert "error: no space is left on the disk, while " in refused.err, told
        assert "asrbuild cache remove" in refused.err, told
        assert "Traceback" not in refused.err, told
        assert leftovers(disk) == [], told
        assert lookup.list_artifacts(disk / "store") == [], told
        filler.unlink()
        again = build(disk, *overrides)
        assert again.code == 0, again.err
        (published,) = lookup.list_artifacts(disk / "store")
        assert published.version in versions
        print(f"{stage:<10} {' '.join(overrides):<50} refused", flush=True)


def refused_before_any_stage(refused: Finished) -> None:
    assert refused.code == 1
    assert "is on a read-only file system, while preparing an artifact" in refused.err, refused.err
    assert "key: paths.artifacts" in refused.err
    assert "Core ML package from the weights" not in refused.err


def read_only(disk: Path) -> None:
    whole = build(disk)
    assert whole.code == 0, whole.err
    mount("-o", "remount,ro", str(disk))
    nothing = build(disk)
    assert nothing.code == 0, nothing.err
    assert "nothing to do" in nothing.out
    refused = build(disk, "n_steps=17")
    refused_before_any_stage(refused)
    assert "fix: choose a directory you can write to" in refused.err
    mount("-o", "remount,rw", str(disk))

    # The store alone.
    mount("--bind", str(disk / "store"), str(disk / "store"))
    mount("-o", "remount,ro,bind", str(disk / "store"))
    refused = build(disk, "n_steps=17")
    refused_before_any_stage(refused)
    subprocess.run(["umount", str(disk / "store")], check=True)
    assert leftovers(disk) == []
    print("read-only  refused", flush=True)


if __name__ == "__main__":
    small = Path(sys.argv[1])
    mount("-t", "tmpfs", "-o", "size=80m", "tmpfs", str(small))
    full(small)
    read_only(small)
