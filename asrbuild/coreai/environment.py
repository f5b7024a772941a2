"""The Python environment with coreai-core, Apple's Core AI for Linux and macOS.

It is an environment of its own because coreai-core requires a newer numpy than coremltools, and its
runtime ends the process on a damaged file. It is made once, in the user's cache folder or in
``ASRBUILD_COREAI``.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from asrbuild.base import environments
from asrbuild.base.disk import remove_tree
from asrbuild.base.environments import Contents, python_in
from asrbuild.base.errors import AsrbuildError

#: The pinned version; other versions have other files and another API.
VERSION = "1.0.0b3"
PYTHONS = ("3.12", "3.13", "3.11", "3.14")
GLIBC = (2, 34)
MACOS = 26
_CONTENTS = Contents(
    "coreai-core",
    (f"coreai-core=={VERSION}", "numpy==2.4.6", "ml-dtypes==0.6.0"),
    PYTHONS[0],
    "is a package index in reach? verify.witness=off builds without it",
)
_PROBE = "import json, sys; print(json.dumps(sys.version_info[:2]))"
#: The file that is written last, after the environment's self-test.
_TESTED = "self-test-passed"


def environment_dir() -> Path:
    """The environment's folder: ``ASRBUILD_COREAI``, or one in the user's cache folder."""
    named = os.environ.get("ASRBUILD_COREAI")
    return Path(named) if named else environments.cached(f"coreai-core-{VERSION}")


def find() -> Path | None:
    """The environment's Python, if it is complete and tested; it checks only two files."""
    folder = environment_dir()
    ready = (folder / _TESTED).is_file() and python_in(folder).is_file()
    return python_in(folder) if ready else None


def unsupported() -> str | None:
    """The reason why coreai-core has no wheel for this machine; None if it has one."""
    machine = platform.machine()
    if sys.platform == "linux" and machine == "x86_64":
        name, version = platform.libc_ver()
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if name == "glibc" and numbers >= GLIBC:
            return None
        found = f"this machine has {name or 'another C library'} {version}".rstrip()
        return f"coreai-core requires glibc 2.34 or later; {found}"
    if sys.platform == "darwin" and machine == "arm64":
        release = platform.mac_ver()[0]
        if int(release.split(".")[0] or 0) >= MACOS:
            return None
        return f"coreai-core requires macOS {MACOS} or later; this machine has {release}"
    return (
        "coreai-core has wheels for x86-64 Linux and for macOS on Apple silicon; "
        f"this machine is {platform.system()} {machine}"
    )


def coreai_python() -> Path:
    """The environment's Python, which has coreai-core.

    Raises:
        AsrbuildError: it is not installed.
    """
    python = find()
    if python is None:
        raise AsrbuildError(
            "Apple's Core AI runtime is not installed", fix="run `asrbuild coreai install`"
        )
    return python


def install(interpreter: Path | None = None) -> Path:
    """Makes and tests the environment, or replaces a damaged one; returns its Python.

    Args:
        interpreter: the Python 3.11 to 3.14 to make it from; None: the first one found.

    Raises:
        AsrbuildError: this machine cannot have it, the packages could not be installed, or the
            self-test failed.
    """
    from asrbuild.coreai.process import RefusedError, RuntimeProcess

    reason = unsupported()
    if reason is not None:
        raise AsrbuildError(
            reason, key="verify.witness", fix="build with verify.witness=off and coreai=none"
        )
    base = find_python() if interpreter is None else _chosen(interpreter)
    if base is None and shutil.which("uv") is None:
        raise AsrbuildError(
            "no Python 3.11 to 3.14 found, and coreai-core runs in no other one",
            key="verify.witness",
            fix="install one (or uv, which can), then run `asrbuild coreai install`",
        )
    target = environment_dir()
    environments.install(target, _CONTENTS, base, lambda folder: find() is not None)
    if find() is None:
        worker = RuntimeProcess(python_in(target))
        try:
            worker.call("self_test")
        except (AsrbuildError, RefusedError) as error:
            what = error.message if isinstance(error, AsrbuildError) else error
            raise AsrbuildError(
                f"coreai-core {VERSION} is installed but fails its self-test: {what}",
                file=target,
                fix="run `asrbuild coreai install` again; verify.witness=off builds without it",
            ) from error
        finally:
            worker.close()
        (target / _TESTED).touch()
    return python_in(target)


def remove() -> bool:
    """Removes the environment; returns whether there was one."""
    folder = environment_dir()
    there = folder.exists()
    remove_tree(folder)
    return there


def find_python() -> Path | None:
    """The first Python that can run coreai-core: this one, uv's, pyenv's, or one on PATH."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in PYTHONS:
        return Path(sys.executable)
    for version in PYTHONS:
        for candidate in environments.candidates(version):
            if _version(candidate) in PYTHONS:
                return candidate
    return None


def status() -> environments.Status:
    """The status of the environment; changes nothing."""
    target = environment_dir()
    python = find()
    if python is not None:
        return environments.Status(target, True, python, f"coreai-core {VERSION} is ready")
    reason = unsupported()
    if reason is not None:
        return environments.Status(target, False, None, reason)
    base = find_python()
    if base is None and shutil.which("uv") is None:
        return environments.Status(target, False, None, "no Python 3.11 to 3.14 found")
    return environments.Status(target, False, base, "not installed; run `asrbuild coreai install`")


def _chosen(interpreter: Path) -> Path:
    python = interpreter.expanduser()
    if _version(python) not in PYTHONS:
        raise AsrbuildError(
            f"{interpreter} is not a Python 3.11 to 3.14 that runs",
            fix="name one of these, or leave --python out",
        )
    return python


def _version(python: Path) -> str | None:
    facts = environments.answer(python, _PROBE)
    return None if facts is None else f"{facts[0]}.{facts[1]}"
