"""Evidence that the kit writes in Swift: the test of a device, read by asrbuild."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from asrbuild.artifact.layout import CONFORMANCE_KIT
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.evidence.checks import check_conformance
from asrbuild.handover.evidence.document import Document, read_document
from asrbuild.handover.evidence.kept import check_file
from asrbuild.handover.ship.signing.keys import Signer
from tests.acceptance.conftest import run_asrbuild


def check_evidence(file: Path, artifact: Path, signer: Signer) -> Document:
    """Checks the device test's file: changed, or signed by another key, it is refused."""
    found = check_file(file, artifact, signer.trust)
    document = found.document
    assert (found.signer, document.runner.name) == ("iphone", "ASRConformance")
    kit = artifact / CONFORMANCE_KIT
    book = json.loads((kit / "steps.json").read_text())
    assert document.conformance is not None
    assert {one.step for one in document.conformance} == {step["name"] for step in book["steps"]}
    with pytest.raises(AsrbuildError, match="no signer that is trusted here"):
        check_file(file, artifact, {})
    with pytest.raises(AsrbuildError, match="it was added before"):
        check_file(file, artifact, signer.trust, [document])
    broken = file.with_name("broken.json")
    raw = bytearray(file.read_bytes())
    letter = raw.index(b'"payload":"') + 100
    raw[letter] = ord("A") if raw[letter] != ord("A") else ord("B")
    broken.write_bytes(raw)
    with pytest.raises(AsrbuildError, match="BAD_SIGNATURE"):
        check_file(broken, artifact, signer.trust)
    whole = json.loads(document.payload)
    rows, name = whole["conformance"], document.timed_recording
    (at,) = [
        i
        for i, one in enumerate(rows)
        if (one["units"], one["recording"], one["step"], one["measure"])
        == ("ALL", name, "probabilities", "max_abs_error")
    ]
    for change, message in (
        ({"value": rows[at]["value"] + 1e-3}, "states an error of|is judged|fails"),
        ({"value": 0.5, "passed": False}, f"probabilities of {name} with ALL fails"),
        ({"limit": 1.0}, "judged by another limit"),
        ({"passed": False}, "judged by another limit"),
        ({"measure": "luck"}, "its steps are not those of the kit"),
    ):
        changed = [row | change if i == at else row for i, row in enumerate(rows)]
        with pytest.raises(AsrbuildError, match=message):
            check_conformance(
                read_document(json.dumps(whole | {"conformance": changed}).encode(), file),
                kit,
                book,
            )
    return document


def check_report(file: Path, artifact: Path, config: Path, folder: Path) -> None:
    """Adds the file to a copy of the artifact, whose report then has the device."""
    manifest = read_manifest(artifact)
    store = folder / "store"
    shutil.copytree(artifact, store / manifest.name / manifest.version)
    env = {"ASRBUILD_ARTIFACTS": str(store), "ASRBUILD_CONFIG": str(config)}
    added = run_asrbuild("evidence", "add", str(file), manifest.name, cwd=folder, env=env)
    assert added.code == 0, added.err
    assert "signed by iphone: iPhone16,2, iOS 18.1.0 (22B83)" in added.out
    page = folder / "page.html"
    done = run_asrbuild("report", manifest.name, "-o", str(page), cwd=folder, env=env)
    assert done.code == 0, done.err
    html = page.read_text()
    assert "iPhone16,2, iOS 18.1.0 (22B83)" in html
    assert 'data-label="memory">' in html
    for step in ("calls", "probabilities", "text", "words"):
        assert f'<td data-label="step">{step}</td>' in html
    shown = run_asrbuild("evidence", "show", manifest.name, cwd=folder, env=env)
    assert "step      ALL: probabilities, argmax_agreement 1 (at least" in shown.out
