"""The programs in ``benchmarks/`` and ``tools/`` start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

#: Files, and folders with a file that starts them.
BENCHMARKS = [
    *(ROOT / "benchmarks").glob("*.py"),
    *(path.parent for path in (ROOT / "benchmarks").glob("*/__main__.py")),
]
PROGRAMS = sorted(str(p.relative_to(ROOT)) for p in [*BENCHMARKS, *(ROOT / "tools").glob("*.py")])


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_prints_its_help(program: str) -> None:
    done = subprocess.run(
        [sys.executable, program, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_main_benchmark_names_every_other_one() -> None:
    text = (ROOT / "benchmarks" / "all.py").read_text(encoding="utf-8")
    for path in BENCHMARKS:
        assert path.name == "all.py" or f"``{path.name}``" in text, path.name
