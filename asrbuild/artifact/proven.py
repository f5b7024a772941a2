"""Records which artifacts were made, pulled or proven on this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from asrbuild.artifact.integrity import verify_files
from asrbuild.artifact.layout import SUMS
from asrbuild.base.digest import file_digest
from asrbuild.base.disk import write_atomically
from asrbuild.base.ownership import require_own
from asrbuild.base.places import memo_root, state_root


def remember_proven(artifact_dir: Path) -> None:
    """Records outside of the artifact that these bytes were made, pulled or proven here.

    Anyone who can write to the artifact can change its claims, but cannot write to the user's own
    state folder. The record is named by the digest of ``SHA256SUMS``, so a copy has it too.
    """
    with suppress(OSError):  # without a record it is proven again
        if (record := _proven_record(artifact_dir)) is not None and not record.exists():
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(record, f"{artifact_dir.parent.name}/{artifact_dir.name}\n")


def is_proven_here(artifact_dir: Path) -> bool:
    """Whether :func:`remember_proven` recorded these bytes; it compares the files first."""
    with suppress(OSError):
        record = _proven_record(artifact_dir)
        if record is not None and record.is_file():
            require_own(record.parent, record, sharable=False)
            return not verify_files(artifact_dir, memo_root())
    return False


def _proven_record(artifact_dir: Path) -> Path | None:
    root = state_root()
    return None if root is None else root / "proven" / file_digest(artifact_dir / SUMS)
