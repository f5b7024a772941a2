"""The kit's own tests in Swift, on every kind of package of DeepSpeech."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.app.checking import PLAYED_BACK, check_kit
from asrbuild.handover.ship.signing.keys import new_key
from tests.handover.app import interface
from tests.handover.app.evidence import check_evidence
from tests.handover.app.package import OF_KIND, Built, check_results, needs_swift
from tests.handover.app.stand_in import serving

pytestmark = needs_swift
KINDS = ("explicit", "stateful", "neuralnetwork", "whole", "multifunction")


def test_the_command_compiles_and_tests_the_kit(built: Built) -> None:
    checks = built.checks
    assert [(check.what, check.passed) for check in checks] == [
        ("syntax", True),
        ("compiled", True),
        ("tested", True),
        ("conformance", True),
    ]
    assert "Swift version" in checks[1].detail
    # The check does not claim to show the results of Core ML.
    assert checks[3].detail.endswith(f"({PLAYED_BACK})") == (sys.platform != "darwin")


@pytest.mark.parametrize(
    "kind", ["explicit", "stateful", "neuralnetwork", "whole", "multifunction"]
)
def test_swift_transcribes_with_every_kind_of_package(
    built: Built, artifacts: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    artifact, manifest = artifacts[kind], read_manifest(artifacts[kind])
    results, pipes = tmp_path / "results", tmp_path / "pipes"
    signer = new_key("iphone", tmp_path / "config")
    key = {"ASRKIT_KEY_ID": signer.keyid} if kind == "explicit" else {}
    # The package is compiled, and tested with the explicit kind, already.
    suites = "ConformanceTests|TranscriberTests" if key else OF_KIND
    with serving(artifact, manifest, pipes, signer) as asked:
        built.test(artifact, suites, ASRKIT_RESULTS=str(results), ASRKIT_EXECUTOR=str(pipes), **key)
    if key and sys.platform != "darwin":
        check_evidence(results / "evidence.json", artifact, signer)
    check_results(artifact, results)
    if sys.platform == "darwin":
        return
    names = {function.name for function in manifest.model.functions}
    assert {question["function"] for question in asked} == (names if len(names) > 1 else {None})
    states = [question["state"] for question in asked if question["ask"] == "predict"]
    assert all((state is not None) == (kind == "stateful") for state in states)
    # Four recordings, each four times: a new state for each run, or none.
    assert len(set(states)) > 4 if kind == "stateful" else set(states) == {None}


def test_public_symbols_are_described_sendable_and_named_and_none_is_removed(built: Built) -> None:
    found = interface.symbols(built.build)
    assert len(found) > 300
    assert [name for name, symbol in found.items() if not symbol.described] == []
    # A reading of a sequence is of one task, as those of Swift's own sequences.
    unsendable = [name.split(":")[0] for name, symbol in found.items() if symbol.unsendable]
    assert [name for name in unsendable if not name.endswith(".Iterator")] == []
    # Names at the top begin with ASR, but for one that 1.0.0 had.
    tops = {name.split(":")[0].split(".")[1] for name in found if "@" not in name.split(":")[0]}
    assert [top for top in tops if not top.startswith("ASR")] == ["openModel(_"]
    recorded = json.loads(interface.RECORDED.read_text())
    gone = sorted({*recorded["symbols"]} - {*found})
    major, before = (int(text.split(".")[0]) for text in (interface.version(), recorded["version"]))
    assert not gone or major > before, "a symbol that goes requires a new major version"


def test_code_that_does_not_compile_is_reported(tmp_path: Path) -> None:
    sources = tmp_path / "ASRKit" / "Sources" / "ASRKit"
    sources.mkdir(parents=True)
    (sources / "Rows.swift").write_text('let broken: Int = "text"\n')
    (tmp_path / "ASRKit" / "Package.swift").write_text(
        "// swift-tools-version:5.9\nimport PackageDescription\n"
        'let package = Package(name: "ASRKit", targets: [.target(name: "ASRKit")])\n'
    )
    syntax, compiled = check_kit(tmp_path)
    assert (syntax.passed, compiled.what, compiled.passed) == (True, "compiled", False)
    assert compiled.detail.startswith("Rows.swift:1:19: error: cannot convert value of type")
