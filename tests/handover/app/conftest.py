"""Artifacts as folders for an app, and the Swift package in one of them, compiled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from asrbuild.speech.audio import read_audio, to_int16
from tests.acceptance.conftest import Workshop, run_asrbuild, workshop as workshop
from tests.acceptance.shared import Sweep, keyword_artifact, once
from tests.handover.app.package import (
    Built,
    build_package,
    other_recordings,
    read_built,
    write_app,
)
from tests.paths import DEMO

#: Kinds of DeepSpeech packages that no other test builds.
KINDS = {
    # With the demo's scorer, for comparison with the genuine decoder.
    "stateful": (
        "model=static",
        "coreml.state=stateful",
        "decoder=ds_ctcdecoder",
        f"decoder.scorer_path={DEMO / 'prompts.scorer'}",
    ),
    "multifunction": ("model=multifunction",),
}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory, workshop: Workshop) -> dict[str, Path]:
    """A folder for the app, of each kind of package of DeepSpeech."""

    def make(folder: Path) -> None:
        found = {
            "explicit": workshop.artifact("static", "mlprogram"),
            "neuralnetwork": workshop.artifact("static", "neuralnetwork"),
            "whole": workshop.artifact("dynamic", "mlprogram"),
        }
        for kind, overrides in KINDS.items():
            # These tests are of the kit, not of the proof.
            done = run_asrbuild(*overrides, f"name={kind}", "verify=quick", cwd=folder)
            assert done.code == 0, done.err
            (found[kind],) = (p for p in (folder / "artifacts" / kind).iterdir() if p.is_dir())
        for kind, artifact in found.items():
            recordings = other_recordings() if kind == "stateful" else None
            write_app(artifact, folder / f"app-{kind}", recordings)
            (folder / f"published-{kind}").symlink_to(artifact)

    folder = once(tmp_path_factory, "app-kinds", make)
    return {path.name.removeprefix("app-"): path for path in folder.glob("app-*")}


@pytest.fixture(scope="session")
def published(artifacts: dict[str, Path]) -> dict[str, Path]:
    """The published artifacts that ``artifacts`` has as folders for an app."""
    folder = artifacts["whole"].parent
    return {kind: (folder / f"published-{kind}").resolve() for kind in artifacts}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, artifacts: dict[str, Path]) -> Built:
    """The package of the kit, compiled with its tests."""
    if shutil.which("swift") is None:
        pytest.skip("there is no Swift toolchain here")
    explicit = artifacts["explicit"]
    folder = once(tmp_path_factory, "app-kit", lambda at: build_package(explicit, at))
    return read_built(explicit, folder)


@pytest.fixture(scope="session")
def networks(
    tmp_path_factory: pytest.TempPathFactory,
    sweep: Sweep,
    conv: dict[str, Path],
    of_samples: Path,
    keywords: Path,
) -> dict[str, Path]:
    """Artifacts with a manifest 2.0, as they were published."""
    short = {"second": to_int16(read_audio(DEMO / "second.wav", 16_000))}
    # Samples are more input than features: the kit gets a shorter recording.
    of_kind = {
        "hama": sweep.artifact("hama", "dynamic"),
        "keywords of samples": keyword_artifact(keywords, "at-samples"),
    }

    def make(folder: Path) -> None:
        for kind, artifact in of_kind.items():
            write_app(artifact, folder / kind, short)

    folder = once(tmp_path_factory, "app-samples", make)
    return {
        **{kind: folder / kind for kind in of_kind},
        "silero": sweep.artifact("silero", "static"),
        "streaming": sweep.artifact("streaming", "static"),
        "quartznet": sweep.artifact("quartznet", "static"),
        "deepspeech in the package": of_samples,
        "conv in the app": conv["app"],
        "conv in the package": conv["package"],
        "keywords of features": keyword_artifact(keywords, "at-mfcc"),
    }
