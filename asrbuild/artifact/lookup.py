"""Lists the artifacts of a store, and finds the artifact that a user names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from asrbuild.artifact.layout import LATEST, MANIFEST
from asrbuild.artifact.names import is_name, is_version
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import ARTIFACT
from asrbuild.base.kinds.recognition import require
from asrbuild.base.ownership import require_own

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Artifact:
    """One published artifact; ``latest``: whether the pointer ``latest`` names it."""

    name: str
    version: str
    path: Path
    latest: bool


def read_latest(root: Path, name: str) -> str | None:
    """The version that the pointer ``latest`` of ``name`` names; None without a pointer."""
    try:
        version = (root / name / LATEST).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return version if is_version(version) else None


def list_artifacts(root: Path) -> list[Artifact]:
    """All artifacts, by name and then by version; none if the store does not exist."""
    if not root.is_dir():
        return []
    found: list[Artifact] = []
    with disk_errors("listing the artifacts", root):
        for folder in sorted(path for path in root.iterdir() if is_name(path.name)):
            if not folder.is_dir():
                continue
            latest = read_latest(root, folder.name)
            found += [
                Artifact(folder.name, path.name, path, path.name == latest)
                for path in sorted(folder.iterdir(), key=_in_order)
                if is_version(path.name) and path.is_dir()
            ]
    return found


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Sort key of a path: 1.9 comes before 1.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(path.name)]


def resolve(root: Path, spec: str) -> Path:
    """The directory of the artifact that a user names.

    Args:
        spec: a name (its latest version), ``name/latest``, ``name/version``, ``name/`` with the
            start of a version or of the digest after its ``+``, or a path to an artifact's
            directory or its ``manifest.json``.

    Raises:
        AsrbuildError: no artifact or more than one fits (it lists the artifacts), or the store is
        not the user's own, see :func:`asrbuild.base.ownership.require_own`.
    """
    if not spec:
        raise AsrbuildError("no artifact is named", fix="give a name that `asrbuild ls` lists")
    if "/" not in spec and os.sep not in spec:
        fitting = [a for a in list_artifacts(root) if a.name == spec]
        if fitting:
            return _own(root, _latest_of(root, spec, fitting).path)
    path = Path(spec).expanduser()
    if path.name == MANIFEST and path.is_file():
        return path.parent
    if (path / MANIFEST).is_file():
        return path
    artifacts = list_artifacts(root)
    name, _, version = spec.strip("/").partition("/")
    fitting = [a for a in artifacts if a.name == name]
    if not fitting:
        raise _nothing_fits(root, spec, artifacts, path)
    if version in ("", LATEST):
        return _own(root, _latest_of(root, name, fitting).path)
    for artifact in fitting:
        if artifact.version == version:
            return _own(root, artifact.path)
    meant = versions_meant([a.version for a in fitting], version)
    starts = [a for a in fitting if a.version in meant]
    if len(starts) == 1:
        return _own(root, starts[0].path)
    if not starts:
        raise _nothing_fits(root, spec, fitting, path)
    raise AsrbuildError(
        f"{spec!r} fits {len(starts)} artifacts: {_names(starts)}",
        file=root,
        fix="write more of the version",
    )


def _own(root: Path, artifact: Path) -> Path:
    require_own(root, artifact.parent, artifact)
    return artifact


def versions_meant(versions: Collection[str], start: str) -> list[str]:
    """The versions that begin with ``start``, or whose digest after the ``+`` begins with it.

    A recipe's whole version comes first: 1.0.1 does not mean 1.0.10.
    """
    whole = [v for v in versions if v.partition("+")[0] == start]
    return whole or [
        v for v in versions if v.startswith(start) or v.partition("+")[2].startswith(start)
    ]


def _latest_of(root: Path, name: str, fitting: list[Artifact]) -> Artifact:
    for artifact in fitting:
        if artifact.latest:
            return artifact
    if len(fitting) == 1:
        return fitting[0]
    raise AsrbuildError(
        f"{name} has no latest version: {_names(fitting)} are there, but {name}/{LATEST} names "
        "none of them",
        file=root / name / LATEST,
        fix="name the version",
    )


def _nothing_fits(root: Path, spec: str, artifacts: list[Artifact], path: Path) -> AsrbuildError:
    if path.exists():
        if versions := sorted(each.parent for each in path.glob(f"*/{MANIFEST}")):
            raise AsrbuildError(
                "this is a folder of artifacts, not one",
                file=path,
                fix=f"choose one of {', '.join(map(str, versions[:10]))}",
            )
        require(path, ARTIFACT)
        return AsrbuildError(
            f"{spec} is there, but not under the name {MANIFEST}",
            file=path,
            fix="give the artifact's directory",
        )
    if not artifacts:
        return AsrbuildError(
            f"there is no artifact {spec!r}: nothing is published here yet",
            file=root,
            fix="build one with `asrbuild model=dynamic`, or pull one with `asrbuild pull`",
        )
    import difflib

    known = sorted({a.name for a in artifacts} | {f"{a.name}/{a.version}" for a in artifacts})
    close = difflib.get_close_matches(spec, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return AsrbuildError(
        f"there is no artifact {spec!r}{hint}",
        file=root,
        fix=f"choose one of {_names(artifacts)}",
    )


def _names(artifacts: list[Artifact]) -> str:
    names = [f"{a.name}/{a.version}" for a in artifacts]
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
