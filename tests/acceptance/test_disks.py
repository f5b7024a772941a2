"""Real builds on a full disk, a read-only store, a damaged cache and another machine's clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.paths import ROOT


def test_a_full_and_a_read_only_disk_in_each_stage(tmp_path: Path) -> None:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk in a namespace")
    script = [sys.executable, "-m", "tests.acceptance.small_disk", str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--mount", *script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_damaged_entries_are_reported_and_rebuilt(workshop: Workshop, tmp_path: Path) -> None:
    root = tmp_path / ".asrbuild" / "cache"
    shutil.copytree(workshop.folder / ".asrbuild" / "cache", root)
    for weights in root.glob("convert/**/weight.bin"):
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    for reference in root.glob("reference/*/reference.npz"):
        os.truncate(reference, reference.stat().st_size // 2)
    for proof in root.glob("prove/*/parity.npz"):
        proof.unlink()
    for record in root.glob("artifact/*/stage.json"):
        record.write_text('{"key": ')
    done = run_asrbuild("model=static", cwd=tmp_path)
    assert done.code == 0, done.err
    for stage, damage in (
        ("reference", "reference.npz has the wrong size"),
        ("convert", "weight.bin was changed"),
        ("prove", "parity.npz is missing"),
        ("artifact", "stage.json is missing or unreadable"),
    ):
        line = next(line for line in done.err.splitlines() if line.startswith(f"note: {stage}: "))
        assert damage in line, line
        assert "building it again" in line
    name = workshop.artifact("static", "mlprogram").name
    assert (tmp_path / "artifacts" / "demo-static-mlprogram" / name).is_dir()
