"""The integrity of an artifact: writes its list of digests, and compares its files with it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asrbuild.artifact.layout import MANIFEST, SUMS
from asrbuild.base.digest import canonical_json, file_digest, text_digest, tree_digests
from asrbuild.base.disk import disk_errors, files_in
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.file_names import stays_inside

_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class Problem:
    """One file that is not as published; ``what`` is changed, missing, added or invalid."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def content_digest(files: Mapping[str, str], manifest_core: Mapping[str, Any]) -> str:
    """SHA-256 over the files' paths and digests and the manifest without the facts of one run."""
    return text_digest(canonical_json({"files": files, "manifest": manifest_core}))


def write_sums(directory: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Writes ``SHA256SUMS`` over every other file; returns path -> digest.

    Raises:
        AsrbuildError: there is no manifest, or a file's name cannot be listed.
    """
    (directory / SUMS).unlink(missing_ok=True)
    sums = tree_digests(directory, known=known)
    if MANIFEST not in sums:
        raise AsrbuildError(f"an artifact without {MANIFEST} cannot be published", file=directory)
    for path in sums:
        if "\\" in path or "\n" in path or "\r" in path:
            raise AsrbuildError(f"the file name {path!r} cannot be published", file=directory)
    lines = [f"{digest}  {path}\n" for path, digest in sums.items()]
    (directory / SUMS).write_text("".join(lines), encoding="utf-8", newline="")
    return sums


def is_published(artifact_dir: Path, cache_root: Path | None = None) -> bool:
    """Whether the artifact exists and is whole, so that a build has nothing to do."""
    return artifact_dir.is_dir() and not verify_files(artifact_dir, cache_root)


def verify_files(artifact_dir: Path, cache_root: Path | None = None) -> list[Problem]:
    """Compares every file with ``SHA256SUMS``; returns the problems, none for a whole artifact.

    Every byte is read. With a ``cache_root``, a large file that has not changed since it was last
    read is not read again; see :func:`asrbuild.base.digest.file_digest`.
    """
    with disk_errors("verifying an artifact", artifact_dir):
        sums = read_sums(artifact_dir)
        if sums is None:
            return [Problem(SUMS, "missing or malformed, so nothing can be verified")]
        try:
            present = {*files_in(artifact_dir)} - {SUMS}
        except AsrbuildError as error:
            return [Problem(str(error.file), f"invalid: {error.message}")]
        problems = [Problem(path, "missing") for path in sums if path not in present]
        problems += [Problem(path, "added") for path in present if path not in sums]
        problems += [
            Problem(path, "changed")
            for path, digest in sums.items()
            if path in present and file_digest(artifact_dir / path, cache_root) != digest
        ]
    return sorted(problems, key=lambda problem: problem.path)


def require_whole(artifact_dir: Path, memo_root: Path | None = None) -> dict[str, str]:
    """Raises unless the files that a user of an artifact reads are as published.

    These are the manifest and the files that it lists; ``asrbuild verify`` checks the others
    (README, report, kit).

    Args:
        artifact_dir: the artifact.
        memo_root: the folder for the digests of large files, see
            :func:`asrbuild.base.digest.file_digest`: an unchanged file is read once.

    Returns:
        Path -> SHA-256 of each file that the manifest lists, computed from the disk.

    Raises:
        AsrbuildError: a file is missing or has changed, or the package has a file that the manifest
        does not list.
    """
    # Not at the top: importing pydantic takes longer than a build with nothing to do.
    from asrbuild.artifact.named_files import package_path, require_listed
    from asrbuild.artifact.reading import read_manifest

    sums = read_sums(artifact_dir)
    if sums is None:
        raise _damaged(artifact_dir, SUMS, "is missing or malformed, so nothing can be checked")
    with disk_errors("checking an artifact", artifact_dir):
        if file_digest(artifact_dir / MANIFEST) != sums.get(MANIFEST):
            raise _damaged(artifact_dir, MANIFEST, "is not as it was published")
        manifest = read_manifest(artifact_dir)
        require_listed(manifest)
        found: dict[str, str] = {}
        for entry in manifest.files:
            path = artifact_dir / entry.path
            if not path.is_file():
                raise _damaged(artifact_dir, entry.path, "is missing")
            found[entry.path] = file_digest(path, memo_root)
            if not found[entry.path] == entry.sha256 == sums.get(entry.path):
                raise _damaged(artifact_dir, entry.path, "is not as it was published")
        package = package_path(artifact_dir, manifest)
        for name in files_in(package) if package.is_dir() else ():
            if f"{manifest.model.package}/{name}" not in found:
                raise _damaged(artifact_dir, f"{manifest.model.package}/{name}", "was added")
    return found


def _damaged(artifact_dir: Path, path: str, what: str) -> AsrbuildError:
    return AsrbuildError(
        f"the artifact is damaged: {path} {what}",
        file=artifact_dir / path,
        fix=f"remove it ({removal(artifact_dir)}), then pull it again from where it came, or build "
        "it again; `asrbuild verify` lists all damage",
    )


def removal(artifact_dir: Path) -> str:
    """The shell command that removes an artifact.

    It makes folders writable, but no file: a file may be in other artifacts, and stays read-only.
    """
    folder = shlex.quote(str(artifact_dir))
    return f"find {folder} -type d -exec chmod u+w {{}} + && rm -rf {folder}"


def read_sums(directory: Path) -> dict[str, str] | None:
    """The content of ``SHA256SUMS``, path -> SHA-256; None if it is missing or malformed."""
    path = directory / SUMS
    if os.path.lexists(path) and not path.is_file():
        return None  # opening a pipe would block
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    sums: dict[str, str] = {}
    for line in lines:
        match = _SUM_LINE.fullmatch(line)
        if match is None or not stays_inside(match[2]) or match[2] in sums:
            return None
        sums[match[2]] = match[1]
    return sums
