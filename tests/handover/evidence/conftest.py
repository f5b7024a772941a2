"""One artifact, measured once by the kit's Python with the stand-in for coremltools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.evidence.kit import write_evidence_kit
from tests.handover.evidence.making import run_kit
from tests.handover.ship.conftest import command, config, signer, trust  # noqa: F401 - fixtures
from tests.proof import building


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published artifact with random weights."""
    root = tmp_path_factory.mktemp("measured")
    return building.publish(
        root / "artifacts", root / "work", random_weights(32, seed=3), "model=static"
    )


@pytest.fixture(scope="session")
def kit(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "kit"
    write_evidence_kit(folder, measured, read_manifest(measured))
    return folder


@pytest.fixture(scope="session")
def document(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document that measure.py wrote."""
    out = tmp_path_factory.mktemp("run") / "evidence.json"
    code, report = run_kit(kit, out, "--cache-cleared")
    assert code == 0, report
    found: dict[str, Any] = json.loads(out.read_text())
    return found
