"""Builds in this process, with the notes that the terminal shows."""

from __future__ import annotations

from pathlib import Path

from asrbuild.base.progress import Progress
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.engine import build
from tests.acceptance.conftest import Workshop


class Notes(Progress):
    """Records the lines that the terminal shows."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def built(workshop: Workshop, artifacts: Path, *overrides: str) -> tuple[Path, list[str]]:
    """The artifact of model=static with the workshop's cache, and the notes of its build."""
    paths = [f"paths.cache={workshop.folder}/.asrbuild/cache", f"paths.artifacts={artifacts}"]
    notes = Notes()
    return build(compose_recipe(["model=static", *overrides, *paths]), (), notes).path, notes.lines
