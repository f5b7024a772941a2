"""The signed headers of artifacts that were pulled from a remote, kept in the store."""

from __future__ import annotations

import os
from pathlib import Path

from asrbuild.artifact.layout import SIGNED
from asrbuild.base.disk import disk_errors, write_atomically
from asrbuild.base.errors import AsrbuildError


def signature_path(artifact: Path) -> Path:
    """The path of an artifact's signed header in a store; it may not exist."""
    version = Path(os.path.abspath(artifact))
    return version.absolute().parent.parent / SIGNED / version.parent.name / f"{version.name}.json"


def read_signature(artifact: Path, limit: int) -> bytes | None:
    """The signed header of an artifact; None if it was not pulled.

    Raises:
        AsrbuildError: the header is not a plain file, or is larger than ``limit`` bytes.
    """
    path = signature_path(artifact)
    if not os.path.lexists(path):
        return None
    with disk_errors("reading a signature", path):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > limit:
            raise AsrbuildError(
                "the signature is not a plain file of a signature's size",
                file=path,
                fix="remove it, and pull the artifact again",
            )
        return path.read_bytes()


def keep_signature(artifact: Path, signature: bytes) -> None:
    """Writes the signed header of an artifact, unless the store has it already."""
    path = signature_path(artifact)
    if path.is_symlink() or not path.is_file() or path.read_bytes() != signature:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, signature.decode("ascii"))
