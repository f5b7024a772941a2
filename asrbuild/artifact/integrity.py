"""The bytes of an artifact: its list of digests, and whether every file is as it was published."""

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
    """One file that is not as it was published; ``what`` is changed, missing, added or invalid."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def content_digest(files: Mapping[str, str], manifest_core: Mapping[str, Any]) -> str:
    """SHA-256 over the files' paths and digests and the manifest without the facts of one run."""
    return text_digest(canonical_json({"files": files, "manifest": manifest_core}))


def write_sums(directory: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Writes ``SHA256SUMS`` over every other file; path -> digest, ``known`` or read.

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
    """Whether the artifact is there and whole, so that building it again would be no work."""
    return artifact_dir.is_dir() and not verify_files(artifact_dir, cache_root)


def verify_files(artifact_dir: Path, cache_root: Path | None = None) -> list[Problem]:
    """Compares every file with ``SHA256SUMS``; an empty list is a whole artifact.

    Every byte is read. With a ``cache_root``, a large file that the file system says is unchanged
    since it was last read is not read again; see :func:`asrbuild.base.digest.file_digest`.
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
    """Checks the files that a use of an artifact reads: its manifest, and those that it lists.

    Other files (README, report, kit) are left to ``asrbuild verify``.

    Args:
        artifact_dir: the artifact.
        memo_root: where the digests of large files are remembered, see
            :func:`asrbuild.base.digest.file_digest`: an unchanged file is read once.

    Returns:
        Path -> SHA-256 of each file that the manifest lists, as it is on the disk.

    Raises:
        AsrbuildError: a file is missing, or is not as it was published, or the package holds a file
            that the manifest does not list.
    """
    # Not at the top: a build with nothing to do is over before pydantic would be there.
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

    It makes folders writable, and no file: a file may be in other artifacts, and stay read-only.
    """
    folder = shlex.quote(str(artifact_dir))
    return f"find {folder} -type d -exec chmod u+w {{}} + && rm -rf {folder}"


def read_sums(directory: Path) -> dict[str, str] | None:
    path = directory / SUMS
    if os.path.lexists(path) and not path.is_file():
        return None  # a pipe would be waited for
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
