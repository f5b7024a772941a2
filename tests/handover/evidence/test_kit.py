"""measure.py with a stand-in for coremltools, and the syntax of the Swift target."""

from __future__ import annotations

import ast
import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.checking import check_syntax
from asrbuild.handover.evidence.kept import check_file
from asrbuild.handover.evidence.kit import write_evidence_kit
from tests.acceptance.shared import Sweep
from tests.handover.evidence.making import run_kit
from tests.proof import building


def test_the_kit_writes_valid_evidence(document: dict[str, Any]) -> None:
    assert document["device"] == {
        "kind": "device",
        "identifier": "Mac16,1",
        "chip": "Apple M4",
        "os": "macOS",
        "os_version": "26.1",
        "os_build": "25B78",
        "memory_bytes": 17179869184,
        "low_power": False,
        "power": "mains",
        "thermal": ["unknown", "unknown"],
    }
    assert [row["passes"] for row in document["statistics"]] == [3, 3, 3, 3]
    order = [one["units"] for one in document["passes"]]
    assert order[:4] != order[4:8], "the turns of the units must rotate"
    assert all(row["cache"] == "cleared" and len(row["again_ms"]) == 1 for row in document["loads"])


def test_missing_answers_and_failed_loads_are_reported(
    kit: Path, published: Path, tmp_path: Path
) -> None:
    """A plan ends the process, and units fail to load; the rest is still measured."""
    out = tmp_path / "evidence.json"
    code, report = run_kit(
        kit,
        out,
        "--units",
        "CPU_ONLY,CPU_AND_NE",
        STAND_IN_PLAN="crash",
        STAND_IN_FAILS="CPU_AND_NE",
    )
    assert code == 0, report
    document = json.loads(out.read_text())
    (plan,) = document["plans"]
    assert re.match(r"reading the plan ended with -\d+", plan["error"])
    assert (plan["answered"], plan["ops"]) == (False, [])
    assert document["errors"] == [
        "loading with CPU_AND_NE failed: Error compiling model: ANECCompile() FAILED"
    ]
    assert document["loads"][0]["cache"] == "unknown"
    checked = check_file(out, published, {})
    assert checked.document.units == ["CPU_ONLY"]

    code, report = run_kit(
        kit, out, "--units", "CPU_AND_NE", STAND_IN_PLAN="nothing", STAND_IN_VIRTUAL="1"
    )
    document = json.loads(out.read_text())
    assert document["device"]["kind"] == "virtual machine"
    (plan,) = document["plans"]
    assert (plan["answered"], plan["error"]) == (False, None)
    assert {op["preferred"] for op in plan["ops"]} == {None}
    with pytest.raises(AsrbuildError, match="virtual machine"):
        check_file(out, published, {})


def test_a_neural_network_is_measured(tmp_path: Path) -> None:
    """Its package is one file, and Core ML may have other names for its kinds of layers."""
    artifact = building.publish(
        tmp_path / "artifacts",
        tmp_path / "work",
        random_weights(16, seed=3),
        "model=static",
        "coreml=neuralnetwork",
    )
    kit = tmp_path / "kit"
    write_evidence_kit(kit, artifact, read_manifest(artifact))
    out = tmp_path / "evidence.json"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code, report = run_kit(kit, out, "--units", "CPU_ONLY", TMPDIR=str(temporary))
    assert code == 0, report
    assert not list(temporary.iterdir()), "the compiled package stays"
    (plan,) = check_file(out, artifact, {}).document.plans
    assert {op.operator for op in plan.ops} == {"Dense"}
    assert not plan.absent
    assert not plan.added


@pytest.mark.parametrize("name", ["streaming", "quartznet", "silero"])
def test_other_networks_are_measured(sweep: Sweep, name: str, tmp_path: Path) -> None:
    """States, whole utterances, and samples with trimmed context: manifests 2.0."""
    artifact = sweep.artifact(name, "static")
    manifest = read_manifest(artifact)
    assert manifest.schema_version == "2.0"
    kit, out = tmp_path / "kit", tmp_path / "evidence.json"
    write_evidence_kit(kit, artifact, manifest)
    code, report = run_kit(kit, out, "--units", "CPU_ONLY")
    assert code == 0, report
    document = check_file(out, artifact, {}).document
    assert {one.recording for one in document.outputs} >= {"reference", "too_short"}
    damaged = json.loads(out.read_text())
    (at,) = [
        i
        for i, one in enumerate(damaged["outputs"])
        if one["recording"] == damaged["timed_recording"]
    ]
    one = damaged["outputs"][at]
    rows = np.frombuffer(base64.b64decode(one["probabilities"]), "<f4").reshape(one["steps"], -1)
    one["probabilities"] = base64.b64encode(np.roll(rows, 1, axis=-1).tobytes()).decode()
    out.write_text(json.dumps(damaged))
    with pytest.raises(AsrbuildError, match=r"the words of \w+ with|fails the gate"):
        check_file(out, artifact, {})


def test_wrong_outputs_are_reported_on_the_mac(kit: Path, tmp_path: Path) -> None:
    """The conformance kit's checker reports them before the file is sent."""
    expected = next((kit / "ASRKit").rglob("reference/probabilities.npy"))
    kept = expected.read_bytes()
    try:
        np.save(expected, np.roll(np.load(expected), 1, axis=0))
        code, report = run_kit(kit, tmp_path / "e.json", "--units", "CPU_ONLY")
    finally:
        expected.write_bytes(kept)
    assert code == 1
    assert "WRONG: CPU_ONLY: reference: in call" in report


def test_the_kit_reports_why_it_cannot_measure(kit: Path, tmp_path: Path) -> None:
    script = kit / "measure.py"
    done = subprocess.run(
        [sys.executable, script, "--units", "NPU"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there are no units NPU" in done.stderr
    # The interpreter of a Mac may be 3.9 and has no asrbuild.
    code = script.read_text() + script.with_name("calls.py").read_text()
    tree = ast.parse(
        code.replace("from __future__ import annotations\n", ""), feature_version=(3, 9)
    )
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(name.startswith("asrbuild") for name in names)
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {
        "numpy",
        "coremltools",
        "calls",
    }
    package = next((kit / "ASRKit").rglob("weight.bin"))
    kept = package.read_bytes()
    package.chmod(0o644)
    try:
        package.write_bytes(kept + b"\0")
        code, report = run_kit(kit, tmp_path / "e.json")
    finally:
        package.write_bytes(kept)
    assert code == 2
    assert "the package is not the one that the kit was made for" in report
    assert not (tmp_path / "e.json").exists()


def test_the_swift_target_parses_and_writes_the_same_keys(
    kit: Path, document: dict[str, Any]
) -> None:
    check = check_syntax(kit / "ASRKit")
    assert check.passed, check.detail
    settings = (kit / "ASRKit" / "Package.swift").read_text()
    assert 'name: "ASRKitEvidence", dependencies: ["ASRKit", "ASRConformance"]' in settings
    assert 'resources: [.copy("measured")]' in settings
    assert "ASRKitTests" not in settings
    sources = kit / "ASRKit" / "Sources" / "ASRConformance"
    code = "".join((sources / name).read_text() for name in ("Evidence.swift", "Device.swift"))
    # Swift's encoder spells `packageSha256` as package_sha256.
    written = {
        re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)
        for name in re.findall(r"[a-z]\w*", code)
    }

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {key for one in value.values() for key in keys(one)}
        return {key for one in value for key in keys(one)} if isinstance(value, list) else set()

    assert keys(document) <= written, keys(document) - written
