"""The comparison with golden files fails on every change except facts of a run or a machine."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import golden

CELL = "static-mlprogram-fp16-native-explicit"
WEIGHTS = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


def changed(change: Callable[[dict[str, Any]], object]) -> list[str]:
    record = copy.deepcopy(golden.read("artifacts")[CELL])
    change(record)
    return list(golden.differences(golden.read("artifacts")[CELL], record))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r["package"].update({WEIGHTS: "0"}), f"package.{WEIGHTS}: "),
        (lambda r: r.update(version="1.0.0+0"), "version: "),
        (
            lambda r: r["layout"].remove("SHA256SUMS"),
            'layout: 63 entries -> 62; gone ["SHA256SUMS"]',
        ),
        (lambda r: r["manifest"].pop("audio"), 'manifest.audio: {"sample_rate": 16000'),
        (
            lambda r: r["manifest"]["decoder"].update(blank_index=28.0),
            "decoder.blank_index: 28 -> 28.0",
        ),
        (lambda r: r["manifest"]["provenance"].pop("created"), 'created: "masked" is gone'),
        (lambda r: r["manifest"]["provenance"].update(host="x"), 'host: "x" is new'),
    ],
)
def test_a_change_is_reported_by_its_path(change: Any, line: str) -> None:
    (found,) = changed(change)
    assert line in found


def artifact(at: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Any:
    """The smallest artifact: one package file, one gate."""
    content = b"weights"
    digest = golden.digest(content)
    metric = {"name": "psnr_db", "value": 80.1, "comparison": ">=", "limit": 60, "passed": True}
    manifest = {
        "name": "a",
        "version": at.name,
        "artifact_id": f"a/{at.name}",
        "files": [
            {"path": "model.mlmodel", "role": "package", "bytes": 7, "sha256": digest},
            {"path": "parity.npz", "role": "parity", "bytes": 9, "sha256": "0"},
        ],
        "verification": {"metrics": [metric], "executions": [{"platform": "Linux"}]},
        "provenance": {"created": "2026-01-01", "git": None, "tools": {"numpy": "2.2.6"}},
    }
    change(manifest)
    at.mkdir(exist_ok=True)
    (at / "model.mlmodel").write_bytes(content)
    (at / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return golden.artifact_record(at)


def test_only_facts_of_a_run_are_masked(tmp_path: Path) -> None:
    first = artifact(tmp_path / "1.0.0+a")

    def another_run(m: dict[str, Any]) -> None:
        m["provenance"].update(created="2027-02-02", git={"commit": "0", "dirty": False})
        m["verification"]["metrics"][0]["value"] = 79.9
        m["verification"]["executions"].append({"platform": "Darwin"})
        m["files"][1].update(bytes=8, sha256="1")

    assert artifact(tmp_path / "1.0.0+a", another_run) == first

    def another_gate(m: dict[str, Any]) -> None:
        m["verification"]["metrics"][0]["limit"] = 50

    other = artifact(tmp_path / "1.0.0+a", another_gate)
    (line,) = golden.differences(first, other)
    assert line.startswith("  manifest.verification.metrics[0]: ")
    assert "masked >= 60 True" in line
    assert "masked >= 50 True" in line


def test_a_manifest_that_lists_another_digest_than_its_packages_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"another digest of model\.mlmodel"):
        artifact(tmp_path / "1.0.0+a", lambda m: m["files"][0].update(sha256="0"))
