"""The printed command that installs an extra works in the environment that runs asrbuild."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.base import libraries
from asrbuild.base.libraries import install_fix
from asrbuild.base.places import PACKAGE
from asrbuild.builder.explain import explain


def _programs(folder: Path) -> str:
    folder.mkdir()
    pip = folder / "pip"
    pip.write_text("#!/bin/sh\n")
    pip.chmod(0o755)
    return str(pip.parent)


def test_pip_of_the_same_environment_is_named_as_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libraries, "installed", lambda: {"pip": "25.0"})
    monkeypatch.setenv("PATH", _programs(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert install_fix("onnx") == "pip install 'asrbuild[onnx]'"
    assert install_fix(None) == "pip install asrbuild"


def test_pip_of_another_environment_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libraries, "installed", lambda: {"pip": "25.0"})
    monkeypatch.setenv("PATH", _programs(tmp_path / "other"))
    python = str(tmp_path / "my env" / "bin" / "python")
    monkeypatch.setattr(sys, "executable", python)
    assert install_fix("s3") == f"'{python}' -m pip install 'asrbuild[s3]'"


def test_an_environment_of_uv_has_no_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libraries, "installed", dict)
    monkeypatch.setattr(libraries, "PACKAGE", tmp_path / "site-packages" / "asrbuild")
    assert install_fix("tune") == f"uv pip install --python {sys.executable} 'asrbuild[tune]'"


def test_in_a_clone_uv_installs_the_extra_that_its_lock_file_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(libraries, "installed", dict)
    clone = PACKAGE.parent
    monkeypatch.chdir(tmp_path)
    assert install_fix("joblib") == f"uv sync --project {clone} --inexact --extra joblib"
    monkeypatch.chdir(clone)
    typed = install_fix("joblib")
    assert typed == "uv sync --inexact --extra joblib"
    done = subprocess.run(
        [*shlex.split(typed), "--dry-run", "--offline"],
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_failure_of_a_launcher_is_not_one_of_the_config() -> None:
    error = explain(RuntimeError('Could not detect "srun", are you on a cluster?'), ["-m"])
    assert "does not compose" not in error.message
    assert 'Could not detect "srun"' in error.message
