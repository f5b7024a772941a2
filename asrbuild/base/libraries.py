"""Versions of the installed libraries, and the extra that brings one, without importing any."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import PACKAGE

_TENSORFLOW = "tensorflow-cpu", "tensorflow"


def library_version(name: str) -> str:
    """Installed version of a distribution, or ``absent``."""
    names = _TENSORFLOW if name == "tensorflow" else (name,)
    versions = (installed().get(each.replace("-", "_")) for each in names)
    return next((version for version in versions if version is not None), "absent")


def check_installed(versions: Mapping[str, str], use: str) -> None:
    """Raises if a library that some work needs is not installed.

    Args:
        versions: distribution -> what :func:`library_version` gives.
        use: what needs them, such as "a build".

    Raises:
        AsrbuildError: one is absent; the fix names the extra of asrbuild that brings it.
    """
    absent = next((name for name, version in versions.items() if version == "absent"), None)
    if absent is not None:
        raise AsrbuildError(
            f"{use} requires {absent}, which is not installed", fix=install_fix(extra_of(absent))
        )


def install_fix(extra: str | None) -> str:
    """The command that installs an extra of asrbuild, or what it always requires, into this Python.

    A clone's environment is uv's, which has no pip, and follows the clone's lock file. Elsewhere
    ``pip`` may belong to another Python than the one that runs asrbuild.
    """
    import shlex
    import shutil

    requirement = f"'asrbuild[{extra}]'" if extra else "asrbuild"
    here, clone = Path(sys.executable), PACKAGE.parent
    if "pip" in installed():
        found = shutil.which("pip")
        if found is not None and Path(found).parent == here.parent:
            return f"pip install {requirement}"
        return f"{shlex.quote(str(here))} -m pip install {requirement}"
    if (clone / "uv.lock").is_file():
        project = (
            "" if Path.cwd().is_relative_to(clone) else f" --project {shlex.quote(str(clone))}"
        )
        return f"uv sync{project} --inexact" + (f" --extra {extra}" if extra else "")
    return f"uv pip install --python {shlex.quote(str(here))} {requirement}"


def import_extra(module: str, extra: str, use: str, key: str) -> Any:
    """Imports a module that an extra of asrbuild brings.

    Args:
        use: the beginning of the error: ``a PyTorch file requires the package torch``.
        key: the config key of that use.

    Raises:
        AsrbuildError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AsrbuildError(
            f"{use}, which is not installed", key=key, fix=install_fix(extra)
        ) from error


def extras() -> dict[str, set[str]]:
    """Extra of asrbuild -> the distributions that it brings on this system or on another."""
    import re
    from importlib.metadata import requires

    found: dict[str, set[str]] = {}
    for line in requires("asrbuild") or ():
        required, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"](\w+)", line)
        if required and extra:
            found.setdefault(extra[1], set()).add(required[0])
    return found


def extra_of(name: str) -> str | None:
    """The extra that brings a distribution; None if asrbuild always requires it."""
    names = set(_TENSORFLOW if name == "tensorflow" else (name,))
    return next((extra for extra, brought in extras().items() if brought & names), None)


@functools.cache
def installed() -> dict[str, str]:
    """Normalised name -> version of each installed distribution; the first on the path counts.

    Name and version are in the name of the ``.dist-info`` folder (PyPA: "Recording installed
    projects"). ``importlib.metadata`` would parse a METADATA file for each of them.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):  # a ZIP file, or a folder that does not exist
            for entry in os.listdir(folder or "."):
                if entry.endswith(".dist-info"):
                    name, _, version = entry.removesuffix(".dist-info").partition("-")
                    versions.setdefault(name.lower().replace(".", "_"), version)
    return versions
