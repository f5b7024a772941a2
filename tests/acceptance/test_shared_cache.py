"""Concurrent builds of one recipe in one cache and one store."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from asrbuild.artifact import integrity, lookup

STAGES = ("export", "cases", "reference", "convert", "execute", "vectors", "prove")


def test_three_builds_at_once_share_the_work(tmp_path: Path) -> None:
    """One build runs each stage; the others report that they wait, and use its result."""
    builds = [
        subprocess.Popen(
            [sys.executable, "-m", "asrbuild.cli.main", "model=static", "verify=quick"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    finished = [build.communicate(timeout=300) for build in builds]
    errors = "".join(err for _, err in finished)
    assert [build.returncode for build in builds] == [0, 0, 0], errors
    assert "is building the same thing; waiting to take its result" in errors
    # The stages that each build ran itself: their lines end with seconds.
    done = re.findall(r"^  done        (.*) in ", "".join(out for out, _ in finished), re.MULTILINE)
    work = Counter(stage for line in done for stage in line.split(", "))
    assert {stage: work[stage] for stage in STAGES} == dict.fromkeys(STAGES, 1)
    (artifact,) = lookup.list_artifacts(tmp_path / "artifacts")
    assert integrity.verify_files(artifact.path) == []
    assert list((tmp_path / ".asrbuild" / "cache" / ".building").iterdir()) == []
