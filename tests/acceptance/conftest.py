"""Runs of the command line, and one sweep that the acceptance tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.main import dispatch
from tests import forking

#: A fixed width, and no colours.
PLAIN = {"COLUMNS": "160", "NO_COLOR": "1"}
MODELS = ("static", "dynamic", "dynamic_to_static", "enumerated")
FORMATS = ("mlprogram", "neuralnetwork")


@pytest.fixture(scope="package", autouse=True)
def swift_is_out_of_sight() -> Iterator[None]:
    """Keeps ``asrbuild app`` from compiling for a minute; tests/handover/app tests that."""
    kept = (
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if not Path(folder, "swift").exists() or Path(folder, "sh").exists()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join(kept))
        yield


@dataclass(frozen=True)
class Finished:
    """A finished command: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def finish(
    *command: str | Path, cwd: Path, env: Mapping[str, str], timeout: float = 300
) -> Finished:
    """Runs a program to its end in an environment, such as that of this process with ``PLAIN``."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run_asrbuild(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
    fresh: bool = False,
) -> Finished:
    """Runs ``asrbuild`` in another process, at a fixed width and without colours.

    The process is a fork with finished imports, unless ``fresh`` is set or the environment has
    variables that Python reads at its start.
    """
    environment = os.environ | PLAIN | dict(env or {})
    if fresh or not forking.may_be_forked(environment):
        program = (sys.executable, "-m", "asrbuild.cli.main")
        return finish(*program, *arguments, cwd=cwd, env=environment, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = forking.context().Process(
            target=forking.run, args=(cwd, list(arguments), out, err, environment)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            os.killpg(process.pid or 0, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        return Finished(process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))


@dataclass(frozen=True)
class Workshop:
    """The folder of a finished sweep of every model kind in both formats."""

    folder: Path
    sweep: Finished

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def artifact(self, model: str, coreml: str) -> Path:
        """The folder of the only version of ``demo-<model>-<format>``."""
        versions = [
            path for path in (self.artifacts / f"demo-{model}-{coreml}").iterdir() if path.is_dir()
        ]
        assert len(versions) == 1, versions
        return versions[0]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The sweep, run once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "workshop"
    with FileLock(shared / "workshop.lock"):
        output = folder / "sweep.txt"
        if not output.exists():
            folder.mkdir()
            done = run_asrbuild(
                "-m", f"model={','.join(MODELS)}", f"coreml={','.join(FORMATS)}", cwd=folder
            )
            output.write_text(f"{done.code}\n{done.out}\f{done.err}", encoding="utf-8")
        code, _, text = output.read_text(encoding="utf-8").partition("\n")
        out, _, err = text.partition("\f")
    return Workshop(folder, Finished(int(code), out, err))


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to build in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def assert_nothing_was_published(folder: Path) -> None:
    artifacts = folder / "artifacts"
    assert not artifacts.exists() or not [p for p in artifacts.iterdir() if p.is_dir()]
    building = folder / ".asrbuild" / "cache" / ".building"
    assert not building.exists() or not list(building.iterdir())


def refusal(*arguments: str) -> AsrbuildError:
    """The error of a command that refuses."""
    with pytest.raises(AsrbuildError) as refused:
        dispatch(list(arguments))
    return refused.value
