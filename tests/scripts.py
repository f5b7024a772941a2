"""Shell scripts in the place of programs."""

from __future__ import annotations

from pathlib import Path


def write_script(path: Path, text: str) -> Path:
    """Writes an executable shell script, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
