"""``compile_model``, which only copies."""

from __future__ import annotations

import shutil
from pathlib import Path


def compile_model(model: str, destination_path: str | None = None) -> str:
    assert isinstance(model, str)
    assert model.endswith((".mlpackage", ".mlmodel"))
    assert destination_path is not None
    target = Path(destination_path, Path(model).name)
    target.parent.mkdir()
    (shutil.copytree if Path(model).is_dir() else shutil.copyfile)(model, target)
    return destination_path
