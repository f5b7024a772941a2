"""Faults in the program that Core AI receives."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.coreai import asset


def hand_over_with(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Changes a text in the program that Core AI receives."""
    hand_over = asset.hand_over

    def edited(package: Path, folder: Path, *, decompress: bool = False) -> None:
        hand_over(package, folder, decompress=decompress)
        path = folder / "program.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    monkeypatch.setattr(asset, "hand_over", edited)
