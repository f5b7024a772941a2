"""Python files are short, and a test module imports nothing from another one."""

from __future__ import annotations

import re

from tests.paths import ROOT, python_files

#: Programs of a test may import their own module.
IMPORT = re.compile(r"^\s*from (tests\.(?:\w+\.)*test_\w+) import", re.MULTILINE)


def test_no_python_file_has_more_than_500_lines() -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in python_files()}
    assert {path: length for path, length in lengths.items() if length > 500} == {}


def test_no_test_module_imports_from_another_one() -> None:
    assert IMPORT.findall("    from tests.proof.test_gates import x\n") == [
        "tests.proof.test_gates"
    ]
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        names = IMPORT.findall(path.read_text(encoding="utf-8"))
        found += [f"{own} imports {name}" for name in names if name != own]
    assert found == []
