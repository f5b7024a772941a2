"""Signed evidence of devices, kept in the store next to its artifacts.

    artifacts/.evidence/<name>/<version>/<sha256 of the file>.json

Evidence is outside of the artifact, whose bytes never change, and stays when a clean-up removes the
version: a version that is built or pulled again has the same bytes, but measurements cannot be
repeated here. Here a file is bytes with a digest; :mod:`asrbuild.handover.evidence` reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from asrbuild.artifact.layout import EVIDENCE
from asrbuild.base.disk import disk_errors, write_atomically

_NAME = re.compile(r"[0-9a-f]{64}")


def evidence_folder(artifact: Path) -> Path:
    """The folder of an artifact's evidence in a store, if there is any."""
    version = Path(os.path.abspath(artifact))
    return version.absolute().parent.parent / EVIDENCE / version.parent.name / version.name


def list_evidence(artifact: Path) -> list[Path]:
    """The evidence files of an artifact, by name; other files in the folder are ignored."""
    folder = evidence_folder(artifact)
    if not folder.is_dir() or folder.is_symlink():
        return []
    with disk_errors("listing evidence", folder):
        return [
            path
            for path in sorted(folder.glob("*.json"))
            if _NAME.fullmatch(path.stem) and path.is_file() and not path.is_symlink()
        ]


def all_evidence(root: Path) -> list[tuple[Path, Path]]:
    """Every evidence file of a store, with the directory of its artifact.

    The artifact may have been removed.
    """
    found = []
    for folder in sorted((root / EVIDENCE).glob("*/*")):
        artifact = root / folder.parent.name / folder.name
        found += [(artifact, path) for path in list_evidence(artifact)]
    return found


def keep_evidence(artifact: Path, raw: bytes) -> Path:
    """Writes a signed evidence file next to an artifact, unless it exists; returns its path."""
    folder = evidence_folder(artifact)
    path = folder / f"{hashlib.sha256(raw).hexdigest()}.json"
    with disk_errors("keeping evidence", folder):
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, raw.decode("ascii"))
    return path
