"""Checks that the files, the manifest and the version of an artifact agree."""

from __future__ import annotations

from pathlib import Path

from asrbuild.artifact.integrity import content_digest, verify_files
from asrbuild.artifact.manifest import Manifest, content_core
from asrbuild.artifact.named_files import require_listed
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.digest import file_digest


def content_digest_of(manifest: Manifest) -> str:
    """The content digest, whose first 12 digits end the artifact's version."""
    core = content_core(manifest)
    return content_digest({file["path"]: file["sha256"] for file in core["files"]}, core)


def damaged_files(path: Path) -> list[str]:
    """The files of an artifact that have changed since it was published, one line each.

    Three records must agree: ``SHA256SUMS`` with every file, the manifest with every file it lists,
    and the version with the content digest.
    """
    problems = [str(problem) for problem in verify_files(path)]
    if problems:
        return problems
    manifest = read_manifest(path)
    require_listed(manifest)
    for entry in manifest.files:
        file = path / entry.path
        if not file.is_file():
            problems.append(f"{entry.path}: missing, the manifest lists it")
        elif file_digest(file) != entry.sha256:
            problems.append(f"{entry.path}: changed since the manifest was written")
    digest = content_digest_of(manifest)
    claimed = manifest.version.rpartition("+")[2]
    if not digest.startswith(claimed) or len(claimed) < 12:
        problems.append(
            f"manifest.json: changed, its content digest is {digest[:12]}, the version ends "
            f"in {claimed}"
        )
    return problems
