"""The Swift package of the kit, compiled once for all tests, and artifacts to run in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from asrbuild.artifact.layout import CONFORMANCE_KIT, SWIFT_KIT
from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.app.checking import Check, check_kit
from asrbuild.handover.app.kit import TEMPLATES, write_folder
from asrbuild.speech.audio import read_audio, to_int16
from tests.handover.app import comparison
from tests.handover.app.stand_in import add_stand_in, serving
from tests.paths import DEMO

needs_swift = pytest.mark.skipif(
    shutil.which("swift") is None, reason="there is no Swift toolchain here"
)
#: Tests that are copied into the package, in addition to the kit's own. They return at once if the
#: variable with their data is missing.
MORE_TESTS = (comparison.SWIFT, Path(__file__).parent / "delivery" / "DeliveryCases.swift")
CHECKS = "checks.json"
#: Tests that differ for each kind of package; for others one kind is enough.
OF_KIND = "StreamingTests|TranscriberTests|FailureTests|RecognizerTests|ConformanceTests"
#: Tests for packages with a manifest 2.0 too.
OF_NETWORK = f"{OF_KIND}|FeatureTests|DecoderTests|InterfaceTests|ManifestTests"
#: The only test that requires a signing key.
EVIDENCE = "ConformanceTests.testEvidenceForTheReader"
#: The number of tests of each suite.
TESTS = {
    path.stem: path.read_text().count("func test")
    for path in (TEMPLATES / SWIFT_KIT / "Tests").rglob("*Tests.swift")
}


def other_recordings() -> dict[str, np.ndarray]:
    """Speech, silence, noise, and samples at the ends of their range: int16 (n,)."""
    speech = to_int16(read_audio(DEMO / "second.wav", 16_000))
    noise = np.random.default_rng(5).integers(-300, 300, 20_011).astype(np.int16)
    square = np.where(np.arange(9_000) // 37 % 2, 32767, -32768).astype(np.int16)
    return {
        "speech": speech,
        "silence": np.zeros(8_000, np.int16),
        "noise": noise,
        "square": square,
    }


@dataclass(frozen=True)
class Built:
    """The Swift package with the stand-in and the comparison's tests in it, compiled.

    ``checks``: the results of ``asrbuild app`` for it.
    """

    package: Path
    build: Path
    checks: list[Check]

    def swift(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        package, then = env.pop("package", str(self.package)), env.pop("then", "")
        folders = ["--package-path", package, "--scratch-path", str(self.build)]
        # Test processes run the compiled package concurrently.
        alone = ["--ignore-lock"] if "--skip-build" in command else []
        verb, *rest = command
        return subprocess.run(
            ["swift", verb, *folders, *alone, *rest, *([then] if then else [])],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | env,
        )

    def test(self, artifact: Path, suites: str, **env: str) -> str:
        """Runs the tests of some suites on an artifact; returns their output.

        All of them must run and pass; evidence is left out if no key signs it.
        """
        done = self.swift(
            "test", "--skip-build", "--filter", suites, ASRKIT_ARTIFACT=str(artifact), **env
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-4000:]
        expected = sum(TESTS[suite] for suite in suites.split("|"))
        ran = rf"Executed {expected} tests, with (1 test skipped and )?0 failures"
        assert re.search(ran, output), output[-2000:]
        skipped = set(re.findall(r"'(\w+\.\w+)' skipped", output))
        assert skipped <= ({EVIDENCE} - {EVIDENCE if "ASRKIT_KEY_ID" in env else ""}), skipped
        return output


def build_package(artifact: Path, folder: Path) -> None:
    """Compiles the kit in an artifact's folder, and runs all of its tests by ``asrbuild app``."""
    package = artifact / SWIFT_KIT
    if sys.platform != "darwin":
        add_stand_in(package)
    for file in MORE_TESTS:
        if file.exists():
            shutil.copy(file, package / "Tests" / "ASRKitTests")
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    expected, pipes = folder / "expected", folder / "pipes"
    expected.mkdir()
    comparison.write_expected(expected)
    built = Built(package, folder / "build", [])
    done = built.swift("build", "--build-tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stdout + done.stderr
    with serving(artifact, read_manifest(artifact), pipes), pytest.MonkeyPatch.context() as at:
        at.setenv("ASRKIT_EXECUTOR", str(pipes))
        at.setenv("ASRKIT_EXPECTED", str(expected))
        at.setenv("XDG_DATA_HOME", str(folder / "data"))
        checks = check_kit(artifact, build=built.build)
    after = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    assert before == after, "building must leave the folder as it was"
    (folder / CHECKS).write_text(json.dumps([asdict(check) for check in checks]))


def read_built(artifact: Path, folder: Path) -> Built:
    """The result of ``build_package``."""
    checks = [Check(**each) for each in json.loads((folder / CHECKS).read_text())]
    return Built(artifact / SWIFT_KIT, folder / "build", checks)


def write_app(
    artifact: Path, folder: Path, recordings: dict[str, np.ndarray] | None = None
) -> None:
    """The folder for an app that ``asrbuild app`` writes of an artifact."""
    write_folder(folder, artifact, read_manifest(artifact), recordings)


def run_program(
    built: Built, package: Path, name: str, *words: object, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program of a compiled package."""
    # Words after the program's name are its arguments.
    folders = ["--package-path", package, "--scratch-path", built.build]
    command = ["swift", "run", *folders, "--skip-build", "--ignore-lock", name, *words]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=os.environ | env
    )


def asrkit(built: Built, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line of the kit."""
    return run_program(built, built.package, "asrkit", *words, **env)


def check_results(artifact: Path, results: Path) -> None:
    """Asserts that the checker of the artifact's conformance kit accepts results."""
    command = [sys.executable, artifact / CONFORMANCE_KIT / "check.py", results]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
