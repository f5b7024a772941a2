"""The closure of a module's imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.base import code

FILES = {
    "__init__.py": "",
    "stage.py": (
        "from typing import TYPE_CHECKING\n"
        "from asrbuild.rooms import (\n    kitchen,\n    CONSTANT,\n)\n"
        "import asrbuild.hall\n\n"
        "if TYPE_CHECKING:\n    from asrbuild import types_only\n\n"
        "def run():\n    from asrbuild.rooms.cellar import wine\n"
        '    start("asrbuild.rooms.attic")\n'
    ),
    "hall.py": 'SCRIPT = Path(__file__).with_name("worker.py")\nFOLDER = "templates"\n',
    "worker.py": "",
    "types_only.py": "",
    "unused.py": "",
    "templates/page.css": "",
    "rooms/__init__.py": "CONSTANT = 1\n",
    "rooms/kitchen.py": "from asrbuild import stage\n",
    "rooms/cellar.py": "",
    "rooms/attic.py": "",
    "rooms/bath.py": "",
}
NOT_COUNTED = {"types_only.py", "unused.py", "rooms/bath.py", "__init__.py"}


def test_the_closure_has_imports_started_modules_and_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "asrbuild"
    for name, text in FILES.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(code, "PACKAGE", package)
    caches = (code._modules, code._imported, code._content, code._needs)
    for each in caches:
        each.cache_clear()
    try:
        names = set(code.closure("stage.py"))
    finally:
        for each in caches:
            each.cache_clear()
    assert names == set(FILES) - NOT_COUNTED
