"""Folders of the checkout that tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "asrbuild"
#: The embedded demo model: checkpoint, alphabet, scorer, recordings with their transcripts.
DEMO = PACKAGE / "demo"
DATA = ROOT / "tests" / "data"
#: Checkpoints and graphs written by the original training and export code.
GENUINE = DATA / "genuine"
SAMPLE_TEXT = (DEMO / "sample.txt").read_text(encoding="utf-8").strip()


def python_files() -> list[Path]:
    """Every Python file of the project."""
    return [
        path
        for folder in ("asrbuild", "benchmarks", "hydra_plugins", "tests", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
