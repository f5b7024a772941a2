"""A fault or delay of the process of Apple's runtime is one error; the next call works."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from asrbuild.base import interrupts
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreai import asset, environment
from asrbuild.coreai.process import RefusedError, RuntimeProcess
from tests.coreai.conftest import given
from tests.marks import needs_core_ai

pytestmark = needs_core_ai
Form = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(form: Form, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asset") / "made.aimodel"
    asset.lower(form("static"), path)
    return path


@pytest.fixture
def worker() -> Iterator[RuntimeProcess]:
    one = RuntimeProcess(environment.coreai_python())
    yield one
    one.close()


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy.aimodel"))


def damage(program: Path, kind: str) -> None:
    data = program.read_bytes()
    if kind == "short":
        program.write_bytes(data[:-1000])
    elif kind == "overwritten":
        program.write_bytes(data[:2000] + b"\xff" * 64 + data[2064:])
    elif kind == "empty":
        program.write_bytes(b"")
    else:
        program.write_bytes(np.random.default_rng(0).bytes(len(data)))


@pytest.mark.parametrize("kind", ["short", "overwritten", "empty", "noise"])
def test_a_damaged_program_is_one_error_and_the_process_lives(
    made: Path, copy: Path, kind: str
) -> None:
    damage(copy / "main.mlirb", kind)
    with pytest.raises(AsrbuildError) as caught:
        asset.load(copy)
    assert caught.value.file == str(copy)
    assert caught.value.fix
    assert len(caught.value.message) < 600
    with asset.load(made) as model:
        assert model.predict(given(model, 16, 16))["logits"].shape == (16, 1, 29)


@pytest.mark.parametrize("gone", ["main.mlirb", "metadata.json"])
def test_an_incomplete_asset_is_named(copy: Path, gone: str) -> None:
    (copy / gone).unlink()
    with pytest.raises(AsrbuildError) as caught:
        asset.load(copy)
    assert caught.value.file == str(copy)


def test_a_model_works_after_its_process_was_killed(made: Path) -> None:
    with asset.load(made) as model:
        first = model.predict(given(model, 16, 16))
        (one,) = [w for w in asset._workers.values() if w.pid is not None]
        os.kill(one.pid, signal.SIGSEGV)
        with pytest.raises(AsrbuildError, match=r"ended at run \(signal 11\)"):
            model.predict(given(model, 16, 16))
        again = model.predict(given(model, 16, 16))
    np.testing.assert_array_equal(first["logits"], again["logits"])


def test_a_process_that_does_not_answer_is_ended(worker: RuntimeProcess) -> None:
    worker.call("ops")
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    worker.time_limit = 0.3
    with pytest.raises(AsrbuildError, match=r"no answer in 0\.3 seconds"):
        worker.call("ops")
    worker.time_limit = 60
    assert "linear" in worker.call("ops")[0]["ops"]
    assert (worker.starts, worker.pid != pid) == (2, True)


def test_a_process_that_does_not_read_is_ended(worker: RuntimeProcess) -> None:
    """The message is larger than the pipe's buffer."""
    worker.call("ops")
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    worker.time_limit = 0.3
    with pytest.raises(AsrbuildError, match="no answer"):
        worker.call("run", {"x": np.zeros(1 << 20, np.float32)}, asset="", function="", states=[])


def test_cancelled_work_ends_the_process(worker: RuntimeProcess) -> None:
    """The work runs in a thread of a build, and the main thread receives Ctrl-C."""
    worker.call("ops")
    pid, event = worker.pid, threading.Event()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    def wait() -> str:
        interrupts.stop_on(event)
        try:
            worker.call("ops")
        except KeyboardInterrupt:
            return "cancelled"
        return "answered"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        event.set()
        assert waiting.result(timeout=30) == "cancelled"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_inputs_are_refused_and_the_process_lives(made: Path, worker: RuntimeProcess) -> None:
    worker.call("open", asset=str(made))
    wrong = {"input_node": np.zeros((1, 3, 19, 26), np.float32)}
    for arrays in (wrong, {"nothing": np.zeros(1, np.float32)}):
        with pytest.raises(RefusedError):
            worker.call("run", arrays, asset=str(made), function="main", states=[])
    with pytest.raises(RefusedError, match="KeyError"):
        worker.call("run", {}, asset=str(made), function="other", states=[])
    assert worker.starts == 1


def test_inputs_and_functions_are_checked_before_a_call(made: Path) -> None:
    with asset.load(made) as model:
        with pytest.raises(AsrbuildError, match="input_node has shape"):
            model.predict(given(model, 3, 3))
        with pytest.raises(AsrbuildError, match="missing input"):
            model.predict({})
    with pytest.raises(AsrbuildError, match="no function other in the asset"):
        asset.load(made, "other")


def test_the_process_ends_with_its_pipe(worker: RuntimeProcess) -> None:
    worker.call("ops")
    pid = worker.pid
    assert pid is not None
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_another_version_of_core_ai_is_refused(
    worker: RuntimeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's code, changed to require another version."""
    from asrbuild.coreai import process

    shutil.copytree(Path(process.__file__).with_name("worker"), tmp_path / "worker")
    names = tmp_path / "worker" / "apple.py"
    names.write_text(names.read_text().replace('"1.0.0b3"', '"1.0.0b4"'))
    monkeypatch.setattr(process, "__file__", str(tmp_path / "process.py"))
    with pytest.raises(RefusedError, match=r"1\.0\.0b3, asrbuild requires 1\.0\.0b4"):
        worker.call("self_test")


def test_the_self_test_passes(worker: RuntimeProcess) -> None:
    assert worker.call("self_test")[0]["version"] == environment.VERSION
