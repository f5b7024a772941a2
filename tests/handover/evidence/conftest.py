"""One artifact, measured once by the kit's Python with the stand-in for coremltools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.evidence.kit import write_evidence_kit
from tests.handover.evidence.making import run_kit
from tests.handover.ship.conftest import command, config, signer, trust  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def kit(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_evidence_kit(folder, published, read_manifest(published))
    return folder


@pytest.fixture(scope="session")
def document(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document that measure.py wrote."""
    out = tmp_path_factory.mktemp("run") / "evidence.json"
    code, report = run_kit(kit, out, "--cache-cleared")
    assert code == 0, report
    found: dict[str, Any] = json.loads(out.read_text())
    return found
