"""Pulls of the tests of shipping and their outcomes in Python, which Swift repeats."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

SWIFT = Path(__file__).parent / "DeliveryCases.swift"
#: Honest and hostile bundles, sets, remotes and channels.
FILES = (
    "attacks/test_bundles.py",
    "attacks/test_remotes.py",
    "attacks/test_sets.py",
    "attacks/test_variants.py",
    "channels",
)
#: Tests that start a server or run commands, and a slow one: recording them adds nothing.
SLOW = ("bucket", "commands", "only_to_proven", "first_compares", "any_value")


def record(folder: Path) -> None:
    """Runs those tests, and writes ``cases.json`` and the bytes that it names into a new folder."""
    folder.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"),
            *("-p", "tests.handover.app.delivery.recorder", "--basetemp", str(folder / "tests")),
            *("-k", " and ".join(f"not {name}" for name in SLOW)),
            *(f"tests/handover/ship/{file}" for file in FILES),
        ],
        cwd=ROOT,
        env=os.environ | {"RECORDED_CASES": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
