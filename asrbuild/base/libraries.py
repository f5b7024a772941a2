"""Versions of the installed libraries, without importing any of them."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress

_TENSORFLOW = "tensorflow-cpu", "tensorflow"


def library_version(name: str) -> str:
    """Installed version of a distribution, or ``absent``."""
    names = _TENSORFLOW if name == "tensorflow" else (name,)
    versions = (_installed().get(each.replace("-", "_")) for each in names)
    return next((version for version in versions if version is not None), "absent")


@functools.cache
def _installed() -> dict[str, str]:
    """Normalised name -> version of everything installed, first on the path first.

    Both are in the name of the ``.dist-info`` folder (PyPA: "Recording installed projects").
    ``importlib.metadata`` would parse an e-mail for each of them.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):  # a ZIP file, or a folder that does not exist
            for entry in os.listdir(folder or "."):
                if entry.endswith(".dist-info"):
                    name, _, version = entry.removesuffix(".dist-info").partition("-")
                    versions.setdefault(name.lower().replace(".", "_"), version)
    return versions
