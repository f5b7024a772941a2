"""The pulls of the tests of shipping with their outcomes in Python, to be repeated in Swift."""

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
    "test_channels.py",
)
#: Of no use here: a folder is read to the signed size, and a web server's answer is refused beyond
#: it; tests that need servers or commands, that change Python's own memory or functions, or that
#: open a bundle of the other kind.
NOT_RECORDED = (
    *("goes_on", "bucket", "moved_to_nothing", "moves_a_channel"),
    *("memory", "number_copied", "changes_between", "other_kind", "any_value"),
)


def record(folder: Path) -> None:
    """Runs those tests, and writes ``cases.json`` and the bytes that it names into a new folder."""
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"),
            *("-p", "tests.handover.app.delivery.recorder", "--basetemp", str(folder / "tests")),
            *("-k", " and ".join(f"not {name}" for name in NOT_RECORDED)),
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
