"""Runs of the command line, and one sweep that the acceptance tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from asrbuild.cli import main as cli

MODELS = ("static", "dynamic", "dynamic_to_static", "enumerated")
FORMATS = ("mlprogram", "neuralnetwork")


@dataclass(frozen=True)
class Finished:
    """A finished command: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def run_asrbuild(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 600
) -> Finished:
    """Runs ``asrbuild`` in a process of its own, at a fixed width and without colours."""
    done = subprocess.run(
        [sys.executable, "-m", "asrbuild.cli.main", *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "160", "NO_COLOR": "1"} | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


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


def run_here(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and standard error of a command line in this process."""
    monkeypatch.setattr(sys, "argv", ["asrbuild", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capfd.readouterr().err


def assert_nothing_was_published(folder: Path) -> None:
    artifacts = folder / "artifacts"
    assert not artifacts.exists() or not [p for p in artifacts.iterdir() if p.is_dir()]
    building = folder / ".asrbuild" / "cache" / ".building"
    assert not building.exists() or not list(building.iterdir())
