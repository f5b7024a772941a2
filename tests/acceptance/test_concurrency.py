"""TensorFlow and the conversion run concurrently: a failure or interrupt of one ends the other."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asrbuild.base import locks
from asrbuild.base.cache import LOCKS, entry_path
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.plan import plan
from asrbuild.builder.sources import settle
from tests.acceptance.conftest import Workshop

#: A startup file of Python that keeps the TensorFlow process from starting its work.
NEVER = """import sys, time
if "asrbuild.architectures.deepspeech.reference" in sys.orig_argv:
    time.sleep(3600)
"""
#: Makes the store count as another disk, so that the package is copied, not linked.
NO_LINKS = """import errno, os
def refuse(*_, **__):
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
os.link = refuse
"""
BUILD = ("model=static",)


def start(
    at: Path, *overrides: str, env: dict[str, str], limit: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "asrbuild.cli.main", *BUILD, *overrides],
        cwd=at,
        env=os.environ | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )


def small_files() -> None:
    """Room for a package in fp16 (1.7 MB), and not for a graph or a package in fp32 (3.4 MB)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))


def end(process: subprocess.Popen[str]) -> str:
    """The output of a process that ends in time; every process that it started has ended too."""
    try:
        _, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return told


@pytest.fixture
def never(tmp_path: Path) -> dict[str, str]:
    """An environment in which TensorFlow never finishes."""
    folder = tmp_path / "never"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NEVER)
    return {"PYTHONPATH": str(folder)}


def kept(workshop: Workshop, cache: Path, *stages: str) -> str:
    """The override for a cache that holds only these stages."""
    for stage in stages:
        shutil.copytree(workshop.folder / ".asrbuild" / "cache" / stage, cache / stage)
    return f"paths.cache={cache}"


def test_a_conversion_that_fails_does_not_wait_for_tensorflow(
    workshop: Workshop, never: dict[str, str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    given = "coreml=neuralnetwork", kept(workshop, cache, "cases", "export")
    process = start(tmp_path, *given, env=never, limit=small_files)
    told = end(process)
    assert process.returncode == 1
    assert "error: the file is larger than this system allows" in told
    assert "while building the stage convert" in told
    assert list((cache / ".building").iterdir()) == []


def test_a_failed_export_is_reported_before_the_package_is_executed(
    workshop: Workshop, tmp_path: Path
) -> None:
    """The conversion needs no graph, so it succeeds."""
    cache = tmp_path / "cache"
    process = start(tmp_path, kept(workshop, cache, "cases"), env={}, limit=small_files)
    told = end(process)
    assert process.returncode == 1
    assert "while building the stage export" in told
    assert (cache / "convert").exists()
    assert not (cache / "execute").exists()


def test_a_copy_that_fails_does_not_wait_for_tensorflow(
    workshop: Workshop, never: dict[str, str], tmp_path: Path
) -> None:
    """The copy into the store runs while TensorFlow does."""
    with Path(never["PYTHONPATH"], "sitecustomize.py").open("a") as file:
        file.write(NO_LINKS)
    given = kept(workshop, tmp_path / "cache", "cases", "export", "convert", "execute")
    process = start(tmp_path, "coreml=neuralnetwork", given, env=never, limit=small_files)
    told = end(process)
    assert process.returncode == 1
    assert "error: the file is larger than this system allows" in told
    assert "while putting the artifact together" in told
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_control_c_of_a_build_that_waits_for_another(tmp_path: Path) -> None:
    """The other build never finishes the reference stage."""
    recipe = compose_recipe([*BUILD, f"paths.cache={tmp_path}/cache"])
    key = plan(*settle(recipe, tmp_path / "cache")).keys["reference"]
    lock = f"{key.stage}-{entry_path(tmp_path, key).name}.lock"
    with locks.hold(tmp_path / "cache" / LOCKS / lock, waiting=print, doing="testing"):
        process = start(tmp_path, f"paths.cache={tmp_path}/cache", env={})
        assert process.stderr is not None
        for line in process.stderr:
            if "is building the same thing; waiting to take its result" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        assert "interrupted" in end(process)
    assert process.returncode == 130
