"""Sessions under the thread sanitizer, and the kit where there is no Core ML."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asrbuild.artifact.layout import SWIFT_KIT
from tests.handover.app import documents
from tests.handover.app.package import needs_swift

pytestmark = needs_swift
RACE = """
import Foundation
import XCTest

final class RaceTests: XCTestCase {
    private final class Shared: @unchecked Sendable { var count = 0 }

    func testTwoThreadsWriteOneNumber() {
        let shared = Shared(), done = DispatchSemaphore(value: 0)
        for _ in 0..<2 {
            Thread.detachNewThread {
                for _ in 0..<10_000 { shared.count += 1 }
                done.signal()
            }
        }
        for _ in 0..<2 { done.wait() }
        XCTAssertGreaterThan(shared.count, 0)
    }
}
"""
SANITIZED = """// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "ASRKit", platforms: [.iOS("15.0"), .macOS("12.0")],
    targets: [
        .target(name: "ASRCore"),
        .target(name: "ASRSession", dependencies: ["ASRCore"]),
        .target(name: "ASRConformance", dependencies: ["ASRCore", "ASRSession"]),
        .testTarget(name: "SessionTests", dependencies: ["ASRConformance"]),
    ]
)
"""


#: The rest of the kit, in the order of their imports.
REST = ("ASRDelivery", "ASRCoreML", "ASRAudio", "ASRKit", "ASRCommand")


@pytest.fixture(scope="module")
def package(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of sessions and their tests, without Core ML."""
    folder = tmp_path_factory.mktemp("sessions")
    kit, tests = artifacts["stateful"] / SWIFT_KIT, folder / "Tests" / "SessionTests"
    for module in ("ASRCore", "ASRSession", "ASRConformance"):
        shutil.copytree(kit / "Sources" / module, folder / "Sources" / module)
    tests.mkdir(parents=True)
    for name in ("Artifact", "Scripted", "RecognizerTests"):
        code = (kit / "Tests" / "ASRKitTests" / f"{name}.swift").read_text()
        (tests / f"{name}.swift").write_text(code.replace("@testable import ASRCoreML\n", ""))
    # What RecognizerTests takes from a file of other tests.
    words = (kit / "Tests" / "ASRKitTests" / "DecoderTests.swift").read_text()
    shared = "import XCTest\n@testable import ASRCore\n\n" + words[words.index("func expect(") :]
    (tests / "Expect.swift").write_text(shared)
    (tests / "RaceTests.swift").write_text(RACE)
    (folder / "Package.swift").write_text(SANITIZED)
    return folder


def test_sessions_have_no_data_race(artifacts: dict[str, Path], package: Path) -> None:
    """The tests of sessions under the thread sanitizer, which finds a seeded race."""

    def run(suite: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                "swift",
                "test",
                "--sanitize=thread",
                "--package-path",
                str(package),
                "--filter",
                suite,
            ],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"ASRKIT_ARTIFACT": str(artifacts["explicit"])},
        )
        return done.returncode, done.stdout + done.stderr

    code, output = run("RecognizerTests")
    assert code == 0, output[-4000:]
    assert "Test Suite 'RecognizerTests' passed" in output
    assert "ThreadSanitizer" not in output
    code, output = run("RaceTests")
    assert code != 0
    # Its two words for the same: of two writes, and of Swift's own exclusive access.
    assert re.search(r"WARNING: ThreadSanitizer: (data|Swift access) race", output), output


def test_the_kit_compiles_where_there_is_no_core_ml(
    artifacts: dict[str, Path], package: Path, tmp_path: Path
) -> None:
    """The modules that have Core ML elsewhere, on those that the test above compiled.

    So does the README's code for systems without Core ML.
    """
    sources = artifacts["stateful"] / SWIFT_KIT / "Sources"
    readme = (artifacts["stateful"] / "README.md").read_text()
    written = tmp_path / "sources" / "Replayed"
    written.mkdir(parents=True)
    (written / "Replayed.swift").write_text(documents.readme_code(readme)["replay"])
    for module in [*REST, "Replayed"]:
        sources = written.parent if module == "Replayed" else sources
        command = [
            *("swift", "-frontend", "-emit-module", "-module-name", module, "-parse-as-library"),
            *("-swift-version", "6", "-package-name", package.name.lower(), "-I", str(tmp_path)),
            *("-I", str(package / ".build" / "debug" / "Modules")),
            *("-o", str(tmp_path / f"{module}.swiftmodule")),
            *map(str, sorted((sources / module).rglob("*.swift"))),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), (module, done.stderr)
