"""Changed artifacts whose records are made consistent again, as an attacker would."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asrbuild.artifact import integrity, layout
from asrbuild.base.digest import file_digest


def copy_artifact(artifact: Path, to: Path) -> Path:
    """A writable copy."""
    shutil.copytree(artifact, to, copy_function=shutil.copyfile)
    for path in (to, *to.rglob("*")):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    return to


def spoil_weights(artifact: Path) -> Path:
    """Changes signs in the middle of the weights: size and form stay valid."""
    (weights,) = artifact.rglob("weight.bin")
    content = bytearray(weights.read_bytes())
    for index in range(300_001, 330_000, 2):
        content[index] ^= 0x80
    weights.write_bytes(content)
    return weights


def agree(artifact: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Makes ``manifest.json`` (after a ``change``) and ``SHA256SUMS`` agree with the files."""
    fields = json.loads((artifact / layout.MANIFEST).read_text(encoding="utf-8"))
    change(fields)
    for entry in fields["files"]:
        path = artifact / entry["path"]
        if path.is_file():
            entry |= {"sha256": file_digest(path), "bytes": path.stat().st_size}
    (artifact / layout.MANIFEST).write_text(json.dumps(fields), encoding="utf-8")
    integrity.write_sums(artifact)
