"""A small Python 3.9 environment with ds-ctcdecoder 0.9.3.

Its wheels end at CPython 3.9, so it has an environment of its own, made once in the user's cache
folder from a Python 3.9: one that the machine has (``uv``, ``pyenv``, ``PATH``), or one that a
setting or ``ASRBUILD_DECODER_PYTHON`` names.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from asrbuild.base import environments
from asrbuild.base.environments import Contents, python_in
from asrbuild.base.errors import AsrbuildError

VERSION = "0.9.3"
PYTHON = (3, 9)
REQUIREMENTS = (f"ds-ctcdecoder=={VERSION}", "numpy==1.26.4")
_CONTENTS = Contents(
    "ds-ctcdecoder",
    REQUIREMENTS,
    "3.9",
    "its wheels are for x86-64 Linux and macOS; is a package index in reach?",
)
_PROBE = (
    "import json, platform, sys\n"
    "try:\n    import ds_ctcdecoder\n    version = ds_ctcdecoder.__version__\n"
    "except Exception:\n    version = None\n"
    "print(json.dumps([sys.version_info[0], sys.version_info[1], version, platform.machine()]))\n"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs: its version, its processor, and its version of ds_ctcdecoder, if any."""

    path: Path
    version: tuple[int, int]
    machine: str
    decoder: str | None


def environment_dir() -> Path:
    """The environment's folder, in the user's cache folder."""
    return environments.cached(f"ds_ctcdecoder-{VERSION}")


def runs_here() -> bool:
    """Whether this interpreter has ds_ctcdecoder, built for it by hand."""
    return importlib.util.find_spec("ds_ctcdecoder") is not None


def decoder_python(interpreter: Path | None = None) -> Path:
    """The Python that runs the decoder; makes its environment if there is none yet.

    Args:
        interpreter: the user's choice; used as it is if it has ds_ctcdecoder. None: this
            interpreter, if it has ds_ctcdecoder, else the environment.

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
    python = python_in(environment_dir())
    return python if _has_decoder(python) else install()


def install(interpreter: Path | None = None) -> Path:
    """Makes the environment, or replaces a damaged one; returns its Python.

    Raises:
        AsrbuildError: no Python 3.9 was found, or the packages could not be installed.
    """
    target = environment_dir()
    base = _base(interpreter or _named())
    if base is None and shutil.which("uv") is None:
        raise AsrbuildError(
            f"no Python 3.9 found, and ds-ctcdecoder {VERSION} runs on no newer one",
            key="decoder.type",
            fix="install Python 3.9 (or uv, which can), then run `asrbuild decoder install`; "
            "decoder=beam needs nothing and agrees with it where there is no scorer",
        )
    found = base.path if base else None
    environments.install(target, _CONTENTS, found, lambda folder: _has_decoder(python_in(folder)))
    if not _has_decoder(python_in(target)):
        raise AsrbuildError(
            f"ds-ctcdecoder {VERSION} was installed but cannot be imported",
            file=target,
            fix="remove the folder and run `asrbuild decoder install` again",
        )
    return python_in(target)


def _base(interpreter: Path | None) -> Interpreter | None:
    """The Python 3.9 to make the environment from: the one given, or the first one found."""
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
    for candidate in environments.candidates(_CONTENTS.python):
        found = _probe(candidate)
        if found is not None and found.version == PYTHON:
            return found
    return None


def status(interpreter: Path | None = None) -> environments.Status:
    """The status of the environment; changes nothing."""
    target = environment_dir()
    interpreter = interpreter or _named()
    if interpreter is None and runs_here():
        return environments.Status(
            target, True, Path(sys.executable), "this interpreter has ds-ctcdecoder"
        )
    base = None
    if interpreter is not None:
        try:
            own = _chosen(interpreter)
            if own.decoder == VERSION:
                return environments.Status(
                    target, True, own.path, f"ds-ctcdecoder {VERSION} is ready"
                )
            base = _base(interpreter)
        except AsrbuildError as error:
            return environments.Status(target, False, None, error.message)
    if _has_decoder(python_in(target)):
        return environments.Status(
            target, True, python_in(target), f"ds-ctcdecoder {VERSION} is ready"
        )
    base = base or find_python()
    if base is not None:
        return environments.Status(
            target, False, base.path, "not installed; `asrbuild decoder install` would use this"
        )
    return environments.Status(
        target, False, None, "no Python 3.9 found; decoder=beam works without"
    )


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


def _has_decoder(python: Path) -> bool:
    found = _probe(python)
    return found is not None and found.decoder == VERSION


def _probe(python: Path) -> Interpreter | None:
    """The facts about a Python; None if it does not run."""
    facts = environments.answer(python, _PROBE)
    if facts is None:
        return None
    major, minor, decoder, machine = facts
    return Interpreter(python, (major, minor), machine, decoder)
