"""A small Python 3.9 environment with ds-ctcdecoder 0.9.3.

Its wheels stop at CPython 3.9, so it lives apart: made once in the user's cache folder, from a
Python 3.9 that the machine has (``uv``, ``pyenv``, ``PATH``) or the user names, in a setting or in
``ASRBUILD_DECODER_PYTHON``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from asrbuild.base.disk import disk_errors, remove_tree
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.progress import Progress

VERSION = "0.9.3"
PYTHON = (3, 9)
REQUIREMENTS = (f"ds-ctcdecoder=={VERSION}", "numpy==1.26.4")
_PROBE = (
    "import json, platform, sys\n"
    "try:\n    import ds_ctcdecoder\n    version = ds_ctcdecoder.__version__\n"
    "except Exception:\n    version = None\n"
    "print(json.dumps([sys.version_info[0], sys.version_info[1], version, platform.machine()]))\n"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python that answered: its version, processor, and the ds_ctcdecoder it has, if any."""

    path: Path
    version: tuple[int, int]
    machine: str
    decoder: str | None


@dataclass(frozen=True)
class Status:
    """Whether ds-ctcdecoder can run here, and in which environment."""

    environment: Path
    ready: bool
    python: Path | None
    detail: str


def environment_dir() -> Path:
    """Where the environment is kept, in the user's cache folder."""
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "asrbuild" / f"ds_ctcdecoder-{VERSION}"


def runs_here() -> bool:
    """Whether this interpreter has ds_ctcdecoder itself, built for it by hand."""
    return importlib.util.find_spec("ds_ctcdecoder") is not None


def decoder_python(interpreter: Path | None = None) -> Path:
    """The Python to run the decoder in; makes the environment where it is not there yet.

    Args:
        interpreter: the user's choice; one that has ds_ctcdecoder is used as it is. Without one,
            this very interpreter is used where it has it.

    Raises:
        AsrbuildError: no Python 3.9 was found, or the environment could not be made.
    """
    interpreter = interpreter or _named()
    if interpreter is not None:
        found = _chosen(interpreter)
        if found.decoder == VERSION:
            return found.path
        return install(interpreter)
    if runs_here():
        return Path(sys.executable)
    ready = _probe(_python_in(environment_dir()))
    if ready is not None and ready.decoder == VERSION:
        return ready.path
    return install()


def install(interpreter: Path | None = None) -> Path:
    """Makes the environment, or makes it anew where it is damaged; its Python.

    Raises:
        AsrbuildError: no Python 3.9 was found, or the packages could not be installed.
    """
    from filelock import FileLock

    target = environment_dir()
    base = _base(interpreter or _named())
    if base is None and shutil.which("uv") is None:
        raise AsrbuildError(
            f"no Python 3.9 found, and ds-ctcdecoder {VERSION} runs on no newer one",
            key="decoder.type",
            fix="install Python 3.9 (or uv, which can), then run `asrbuild decoder install`; "
            "decoder=beam needs nothing and agrees with it where there is no scorer",
        )
    with disk_errors("making the environment for ds-ctcdecoder", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            ready = _probe(_python_in(target))
            if ready is not None and ready.decoder == VERSION:
                return ready.path
            fresh = target.with_name(target.name + ".new")
            Progress().note("making a Python 3.9 environment for ds-ctcdecoder, once")
            try:
                remove_tree(fresh)
                _make(fresh, base.path if base else None)
                # What is there goes only when there is something better.
                remove_tree(target)
                fresh.rename(target)
            finally:
                remove_tree(fresh)
    ready = _probe(_python_in(target))
    if ready is None or ready.decoder != VERSION:
        raise AsrbuildError(
            f"ds-ctcdecoder {VERSION} was installed but cannot be imported",
            file=target,
            fix="remove the folder and run `asrbuild decoder install` again",
        )
    return ready.path


def _base(interpreter: Path | None) -> Interpreter | None:
    """What the environment would be made from: the Python 3.9 that is named, or one found."""
    if interpreter is None:
        return find_python()
    base = _chosen(interpreter)
    if base.version != PYTHON:
        raise AsrbuildError(
            f"the decoder needs Python 3.9, {base.path} is {base.version[0]}.{base.version[1]}",
            key="decoder.interpreter",
            fix="name a Python 3.9, or leave it out",
        )
    return base


def find_python() -> Interpreter | None:
    """The first Python 3.9 that runs: of uv, of pyenv, then on PATH."""
    for candidate in _candidates():
        found = _probe(candidate)
        if found is not None and found.version == PYTHON:
            return found
    return None


def status(interpreter: Path | None = None) -> Status:
    """What is there, without changing anything."""
    target = environment_dir()
    interpreter = interpreter or _named()
    if interpreter is None and runs_here():
        return Status(target, True, Path(sys.executable), "this interpreter has ds-ctcdecoder")
    base = None
    if interpreter is not None:
        try:
            own = _chosen(interpreter)
            if own.decoder == VERSION:
                return Status(target, True, own.path, f"ds-ctcdecoder {VERSION} is ready")
            base = _base(interpreter)
        except AsrbuildError as error:
            return Status(target, False, None, error.message)
    ready = _probe(_python_in(target))
    if ready is not None and ready.decoder == VERSION:
        return Status(target, True, ready.path, f"ds-ctcdecoder {VERSION} is ready")
    base = base or find_python()
    if base is not None:
        return Status(
            target, False, base.path, "not installed; `asrbuild decoder install` would use this"
        )
    return Status(target, False, None, "no Python 3.9 found; decoder=beam works without")


def _named() -> Path | None:
    named = os.environ.get("ASRBUILD_DECODER_PYTHON")
    return Path(named) if named else None


def _chosen(interpreter: Path) -> Interpreter:
    found = _probe(Path(interpreter).expanduser())
    if found is None:
        raise AsrbuildError(
            f"{interpreter} is not a Python that runs",
            key="decoder.interpreter",
            fix="name a Python 3.9 executable",
        )
    return found


def _candidates() -> Iterator[Path]:
    uv = shutil.which("uv")
    if uv is not None:
        found = _run([uv, "python", "find", "--no-project", "3.9"])
        if found is not None and found.returncode == 0:
            yield Path(found.stdout.strip())
    roots = [os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv")]
    for root in dict.fromkeys(root for root in roots if root):
        # Unlike pathlib's, this glob passes over folders that may not be read.
        yield from map(
            Path, sorted(glob(f"{escape(root)}/versions/3.9.*/bin/python"), reverse=True)
        )
    for name in ("python3.9", "python3", "python"):
        found_on_path = shutil.which(name)
        if found_on_path is not None:
            yield Path(found_on_path)


def _probe(python: Path) -> Interpreter | None:
    """The facts that a Python reports; None if it does not run (a pyenv shim has no version)."""
    done = _run([str(python), "-I", "-c", _PROBE]) if shutil.which(str(python)) else None
    if done is None or done.returncode != 0:
        return None
    try:
        major, minor, decoder, machine = json.loads(done.stdout)
    except ValueError:
        return None
    return Interpreter(Path(python), (major, minor), machine, decoder)


def _make(folder: Path, base: Path | None) -> None:
    """A fresh environment with the packages; with uv where there is one, else venv and pip."""
    uv = shutil.which("uv")
    python = _python_in(folder)
    if uv is not None:
        made = [uv, "venv", "--no-project", "--python", str(base) if base else "3.9", str(folder)]
        filled = [uv, "pip", "install", "--python", str(python), "--only-binary", ":all:"]
    else:
        made = [str(base), "-m", "venv", str(folder)]
        filled = [str(python), "-m", "pip", "install", "--only-binary", ":all:"]
    for command in (made, [*filled, *REQUIREMENTS]):
        # Elsewhere than in a project: uv would hold this environment to the project's own pins.
        done = _run(command, timeout_s=900, cwd=folder.parent)
        if done is None or done.returncode != 0:
            lines = (done.stderr if done else "it did not start or did not end").strip().split("\n")
            raise AsrbuildError(
                f"the environment for ds-ctcdecoder could not be made: {lines[-1].strip()}",
                file=folder,
                fix="its wheels are for x86-64 Linux and macOS; is a package index in reach?",
            )


def _python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def _run(
    command: list[str], timeout_s: float = 60, cwd: Path | None = None
) -> subprocess.CompletedProcess[str] | None:
    """The finished process, or None if it could not be started or did not end in time."""
    # A surrounding virtual environment must not leak into another interpreter.
    clean = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    clean.pop("PYTHONHOME", None)
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
