"""Small Python environments in the user's cache folder, for packages that need another Python.

An environment is made once, from a Python that the machine has (``uv``, ``pyenv``, ``PATH``) or
that uv fetches. An existing environment stays until its replacement works.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base.disk import disk_errors, remove_tree
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import Progress

if TYPE_CHECKING:
    from subprocess import CompletedProcess


@dataclass(frozen=True)
class Status:
    """Whether the packages of an environment can run here, and with which interpreter.

    ``python``: the interpreter that runs them, or that could make the environment; None: none fits.
    ``detail``: the state in words.
    """

    environment: Path
    ready: bool
    python: Path | None
    detail: str


@dataclass(frozen=True)
class Contents:
    """The packages of an environment.

    Args:
        package: its name in messages.
        requirements: pip requirements, pinned.
        python: the version of Python that uv fetches if the machine has no Python that fits.
        fix: what to do if the packages cannot be installed.
    """

    package: str
    requirements: tuple[str, ...]
    python: str
    fix: str


def cached(name: str) -> Path:
    """The folder of an environment of this name, in the user's cache folder."""
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "asrbuild" / name


def python_in(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / "bin" / "python"


def candidates(version: str) -> Iterator[Path]:
    """Interpreters that may have this version: uv's, pyenv's, then those on PATH."""
    uv = shutil.which("uv")
    if uv is not None:
        found = run([uv, "python", "find", "--no-project", version])
        if found is not None and found.returncode == 0:
            yield Path(found.stdout.strip())
    roots = [os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv")]
    for root in dict.fromkeys(root for root in roots if root):
        # Unlike pathlib's, this glob skips folders that it must not read.
        pattern = f"{escape(root)}/versions/{version}.*/bin/python"
        yield from map(Path, sorted(glob(pattern), reverse=True))
    for name in (f"python{version}", "python3", "python"):
        found_on_path = shutil.which(name)
        if found_on_path is not None:
            yield Path(found_on_path)


def answer(python: Path, program: str) -> Any:
    """The JSON that a program prints in this Python; None if it does not run (as a pyenv shim)."""
    done = run([str(python), "-I", "-c", program]) if shutil.which(str(python)) else None
    if done is None or done.returncode != 0:
        return None
    try:
        return json.loads(done.stdout)
    except ValueError:
        return None


def install(
    target: Path, contents: Contents, base: Path | None, is_ready: Callable[[Path], bool]
) -> None:
    """Makes an environment, or replaces a damaged one.

    Args:
        target: its folder.
        contents: its packages.
        base: the Python to make it from; None: uv finds one.
        is_ready: whether the environment in a folder works.

    Raises:
        AsrbuildError: the packages could not be installed, or do not work.
    """
    from filelock import FileLock

    with disk_errors(f"making the environment for {contents.package}", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            if is_ready(target):
                return
            fresh = target.with_name(target.name + ".new")
            Progress().note(f"making a Python environment for {contents.package}, once")
            try:
                remove_tree(fresh)
                _make(fresh, contents, base)
                # The old environment goes only when the new one works.
                remove_tree(target)
                fresh.rename(target)
            finally:
                remove_tree(fresh)


def _make(folder: Path, contents: Contents, base: Path | None) -> None:
    """Makes a fresh environment with the packages: with uv if available, else with venv and pip."""
    uv = shutil.which("uv")
    python = str(python_in(folder))
    if uv is not None:
        version = str(base) if base else contents.python
        made = [uv, "venv", "--no-project", "--python", version, str(folder)]
        filled = [uv, "pip", "install", "--python", python, "--only-binary", ":all:"]
    else:
        made = [str(base), "-m", "venv", str(folder)]
        filled = [python, "-m", "pip", "install", "--only-binary", ":all:"]
    for command in (made, [*filled, *contents.requirements]):
        # Outside of any project: uv would apply the project's pins to this environment.
        done = run(command, timeout_s=900, cwd=folder.parent)
        if done is None or done.returncode != 0:
            lines = (done.stderr if done else "it did not start or did not end").strip().split("\n")
            raise AsrbuildError(
                f"the environment for {contents.package} could not be made: {lines[-1].strip()}",
                file=folder,
                fix=contents.fix,
            )


def run(
    command: Sequence[str], timeout_s: float = 60, cwd: Path | None = None
) -> CompletedProcess[str] | None:
    """Runs a command; None if it cannot be started or does not end in time."""
    import subprocess

    # A surrounding virtual environment must not leak into another interpreter.
    left_out = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=clean,
            cwd=cwd,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
