"""Versions of the installed libraries, and the extra that brings one, without importing any."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from asrbuild.base.errors import AsrbuildError

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
        extra = _extra_of(absent)
        raise AsrbuildError(
            f"{use} requires {absent}, which is not installed",
            fix=f"pip install '{f'asrbuild[{extra}]' if extra else absent}'",
        )


def _extra_of(name: str) -> str | None:
    import re
    from importlib.metadata import requires

    names = _TENSORFLOW if name == "tensorflow" else (name,)
    for line in requires("asrbuild") or ():
        required, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"](\w+)", line)
        if required and extra and required[0] in names:
            return extra[1]
    return None


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
