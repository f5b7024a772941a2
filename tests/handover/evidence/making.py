"""Runs of an evidence kit, and changes of the document that it writes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asrbuild.handover.evidence.figures import quantile

Change = Callable[[dict[str, Any]], object]
STAND_IN = Path(__file__).parent / "stand_in"


def run_kit(kit: Path, out: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Runs measure.py of a kit with the stand-in; exit code and report."""
    done = subprocess.run(
        [sys.executable, kit / "measure.py", "--out", out, "--passes=3", "--loads=1", *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {
            "PYTHONPATH": str(STAND_IN),
            "PATH": f"{STAND_IN / 'bin'}:{os.environ['PATH']}",
            "PYTHONSAFEPATH": "1",  # as some set it: Python then leaves out a script's own folder
            **environment,
        },
    )
    return done.returncode, done.stderr


def changed(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """A copy of a document with a change."""
    made = copy.deepcopy(document)
    change(made)
    return made


def remake(document: dict[str, Any]) -> None:
    """Computes the statistics from the passes again."""
    samples = {one["recording"]: one["samples"] for one in document["outputs"]}
    audio_s = samples[document["timed_recording"]] / 16_000
    for row in document["statistics"]:
        times = [sum(p["calls_ms"]) for p in document["passes"] if p["units"] == row["units"]]
        values = [ms / audio_s for ms in times]
        row |= {
            "passes": len(values),
            "p50_ms": quantile(values, 0.5),
            "mean_ms": sum(values) / len(values),
            "p95_ms": quantile(values, 0.95),
            "max_ms": max(values),
        }


def written(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path
