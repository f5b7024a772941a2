"""A worker that begins before its arguments are known."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures import original
from asrbuild.architectures.onnx import WORKER
from asrbuild.base.errors import AsrbuildError

RUNTIME = "ONNX Runtime"


def asked(folder: Path) -> original.OriginalRun:
    """The worker, with a request to run a file that is not a model."""
    (folder / "no.onnx").write_bytes(b"no model")
    original.save_cases(folder / "cases.npz", {"a/00000/x": np.zeros((1, 2), np.float32)})
    arguments = "--cases", str(folder / "cases.npz"), "--model", str(folder / "no.onnx")
    return original.start(WORKER, RUNTIME, folder / "out.npz", *arguments)


def test_the_next_start_asks_the_begun_worker_and_a_later_one_another(tmp_path: Path) -> None:
    with original.begun(WORKER):
        process, _ = original._begun[WORKER][-1]
        runs = [asked(tmp_path), asked(tmp_path)]
        assert runs[0].process is process
        assert runs[1].process is not process
    for run in runs:  # they outlive the block
        with pytest.raises(AsrbuildError, match="onnxruntime cannot load the model"):
            run.wait(60)


def test_one_worker_of_a_module_waits_at_a_time() -> None:
    with original.begun(WORKER):
        with original.begun(WORKER):
            assert len(original._begun[WORKER]) == 1
        assert original._begun[WORKER][-1][0].poll() is None
    assert not original._begun[WORKER]


def test_a_worker_that_is_not_asked_ends_with_the_block() -> None:
    with original.begun(WORKER):
        process, log = original._begun[WORKER][-1]
    assert process.poll() == -signal.SIGKILL
    assert log.closed
    assert not original._begun[WORKER]


def test_the_end_of_a_begun_worker_is_reported(tmp_path: Path) -> None:
    with original.begun(WORKER):
        process, _ = original._begun[WORKER][-1]
        process.kill()
        process.wait()
        with pytest.raises(AsrbuildError, match="ended with signal 9"):
            asked(tmp_path).wait(60)


BEGINS = f"""
import os, signal
from asrbuild.architectures import original
with original.begun({WORKER!r}):
    print(original._begun[{WORKER!r}][-1][0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux waits for any process")
def test_a_begun_worker_ends_with_a_killed_build() -> None:
    with subprocess.Popen([sys.executable, "-c", BEGINS], stdout=subprocess.PIPE) as build:
        assert build.stdout is not None
        worker = int(build.stdout.readline())
        try:
            ended = os.pidfd_open(worker)
        except ProcessLookupError:
            return
        assert select.select([ended], [], [], 30)[0]
        os.close(ended)
