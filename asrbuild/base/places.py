"""The folders in use: the package's own files, the store, the cache, the user's state."""

from __future__ import annotations

import os
from pathlib import Path

from asrbuild.base.errors import AsrbuildError

#: The folder of the package ``asrbuild``.
PACKAGE = Path(__file__).resolve().parent.parent
#: Prefix of the files that come with asrbuild, for instance ``demo:sample.wav``.
DEMO_PREFIX = "demo:"


def resolve_file(path: str) -> Path:
    """A recipe's path on disk; ``demo:x`` is the file ``x`` that comes with asrbuild."""
    if path.startswith(DEMO_PREFIX):
        return PACKAGE / "demo" / path[len(DEMO_PREFIX) :]
    return Path(path).expanduser()


def named(file: Path) -> str:
    """A file as a person names it: ``demo:x`` if it comes with asrbuild."""
    demo = PACKAGE / "demo"
    if file.is_relative_to(demo):
        return DEMO_PREFIX + file.relative_to(demo).as_posix()
    return str(file)


def artifacts_root() -> Path:
    """The artifact store of commands: ``$ASRBUILD_ARTIFACTS``, or ``./artifacts``."""
    return _folder("ASRBUILD_ARTIFACTS", "artifacts")


def cache_root() -> Path:
    """The stage cache of commands: ``$ASRBUILD_CACHE``, or ``./.asrbuild/cache``."""
    return _folder("ASRBUILD_CACHE", ".asrbuild/cache")


def memo_root() -> Path | None:
    """The folder for the digests of large files; None without a home folder.

    It is the cache if that exists, else the user's own folder for caches, so that inspecting an
    artifact writes nothing into the current folder.
    """
    root = cache_root()
    if os.environ.get("ASRBUILD_CACHE") or root.is_dir():
        return root
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "asrbuild") if os.path.isabs(base) else None


def state_root() -> Path | None:
    """The folder that records the artifacts proven on this machine; None without a home folder.

    ``$ASRBUILD_STATE``, ``$XDG_STATE_HOME/asrbuild`` or ``~/.local/state/asrbuild``: never a place
    that could have come with a checkout.
    """
    if own := os.environ.get("ASRBUILD_STATE"):
        return Path(own)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base, "asrbuild") if os.path.isabs(base) else None


def _folder(variable: str, usual: str) -> Path:
    path = Path(os.environ.get(variable, usual))
    if path.is_file():
        raise AsrbuildError(
            "this is a file, not a folder", key=variable, file=path, fix="name a folder"
        )
    return path
