"""The kit's sources, type-checked for Apple's targets: interfaces that a system lacks are guarded.

Swift on Linux enforces ``@available`` of iOS or macOS only for an Apple target. That requires a
standard library of the target: Linux's own, with the name of its target replaced by one of the same
length. Core ML, AVFoundation and Foundation are transcribed in ``apple_interface``.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.manifest import Manifest
from asrbuild.handover.app.kit import MADE, TEMPLATES, readme
from asrbuild.handover.app.swift import manifest_swift
from tests.handover.app import documents
from tests.manifests import MANIFEST
from tests.paths import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("swift") is None, reason="there is no Swift toolchain here"),
]
INTERFACE = Path(__file__).parent / "apple_interface"
#: Replacements of Linux's target in the standard library, by folder and file of the library.
TARGETS = {
    ("macosx", "x86_64-apple-macos"): b"x86_64-apple-macos9",
    ("iphoneos", "arm64-apple-ios"): b"arm64-apple-ios15.0",
}
#: The systems whose interfaces are transcribed.
FRAMEWORKS = ("Foundation", "CryptoKit", "CoreML", "CoreAI", "AVFoundation")
#: The checked modules of the kit, each after those that it imports.
MODULES = ("ASRCore", "ASRSession", "ASRDelivery", "ASRAudio", "ASRCoreML", "ASRConformance")
#: The file that Swift's package manager generates from a target's resources.
MODULE = "import Foundation\nextension Bundle { static let module = Bundle.main }\n"
MODEL = "CoreMLModel.swift"
OUTLINES = "-experimental-skip-non-inlinable-function-bodies"


@dataclass(frozen=True)
class Checker:
    """The folder with the standard libraries, and the kit's sources by module.

    Modules are made in the folders of the sources: those in the compiler's folder count as a
    system's.
    """

    folder: Path
    sources: Path

    def errors(self, triple: str, changed: Path | None = None, outlines: bool = False) -> list[str]:
        """Errors and warnings of the kit for a target such as ``x86_64-apple-macos12.0``.

        Modules stay for the next call. ``changed``: other sources of the module that its folder
        names, which is checked alone. ``outlines``: leaves out the bodies of functions in modules
        that call no framework; the check of another target has them.
        """
        modules, found = self.sources.parent / triple, []
        interface = [(name, sorted(INTERFACE.glob(f"{name}*.swift"))) for name in FRAMEWORKS]
        kit = [(name, sorted((self.sources / name).rglob("*.swift"))) for name in MODULES]
        for name, files in [*interface, *kit]:
            made = modules / f"{name}.swiftmodule"
            if made.exists() or (changed and name in MODULES[2:]):
                continue
            modules.mkdir(exist_ok=True)
            skipped = [OUTLINES] if outlines and name in ("ASRCore", "ASRSession") else []
            done = self._frontend(triple, name, "-emit-module", *skipped, "-o", made, *files)
            found += _complaints(done)
            if name in FRAMEWORKS:
                assert done.returncode == 0, done.stderr
        if changed:
            files = sorted(changed.glob("*.swift"))
            found += _complaints(self._frontend(triple, changed.name, "-typecheck", *files))
        return found

    def app_errors(self, triple: str, sources: Path) -> list[str]:
        """Errors and warnings of an app with the kit, for a target that ``errors`` has compiled."""
        modules, found = self.sources.parent / triple, []
        for name, file in (
            ("Combine", INTERFACE / "Combine.swift"),
            ("SwiftUI", INTERFACE / "SwiftUI.swift"),
            ("ASRKit", self.sources / "ASRKit" / "ASRKit.swift"),
        ):
            made = modules / f"{name}.swiftmodule"
            if not made.exists():
                found += _complaints(self._frontend(triple, name, "-emit-module", "-o", made, file))
        files = sorted(sources.glob("*.swift"))
        return found + _complaints(self._frontend(triple, "Dictation", "-typecheck", *files))

    def _frontend(
        self, triple: str, module: str, *rest: object
    ) -> subprocess.CompletedProcess[str]:
        command = [
            "swift",
            "-frontend",
            "-module-name",
            module,
            "-target",
            triple,
            "-swift-version",
            "6",
            "-resource-dir",
            self.folder,
            "-I",
            self.sources.parent / triple,
            "-parse-as-library",
            "-sdk",
            self.folder / "macosx",
            "-disable-target-os-checking",
            "-disable-objc-interop",
            *rest,
        ]
        if module.startswith("ASR"):
            command += ["-package-name", "ASRKit"]
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=120
        )


def _complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Errors and warnings, each beginning with its file's name."""
    lines = [x for x in done.stderr.splitlines() if ": error:" in x or ": warning:" in x]
    assert (done.returncode != 0) == any(": error:" in line for line in lines), done.stderr
    return [line.rpartition("/")[2] for line in lines]


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    folder = tmp_path_factory.mktemp("apple")
    done = subprocess.run(
        ["swift", "-print-target-info"], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    library = Path(answer["paths"]["runtimeResourcePath"])
    if not library.exists():
        # tools/debian_swift.sh gives the toolchain its own root.
        swift = Path(str(shutil.which("swift"))).resolve()
        library = swift.parent.parent / "root" / library.relative_to("/")
    name = answer["target"]["triple"].encode()
    modules = sorted((library / "linux").glob("*.swiftmodule/x86_64-*linux-gnu.swiftmodule"))
    # On Linux only.
    modules = [module for module in modules if module.parent.stem != "FoundationNetworking"]
    if not modules or {len(target) for target in TARGETS.values()} != {len(name)}:
        pytest.skip(f"the standard library of {name.decode()} cannot be renamed")
    for shared in ("shims", "clang"):
        shutil.copytree(library / shared, folder / shared, ignore_dangling_symlinks=True)
    for (system, file), target in TARGETS.items():
        for module in modules:
            made = folder / system / module.parent.name
            made.mkdir(parents=True)
            renamed = module.read_bytes().replace(name, target)
            (made / f"{file}.swiftmodule").write_bytes(renamed)
    sources = tmp_path_factory.mktemp("kit") / "sources"
    shutil.copytree(TEMPLATES / "ASRKit" / "Sources", sources)
    (sources.parent / MADE.replace("Sources", "sources")).write_text(manifest_swift())
    return Checker(folder, sources)


def sample_app(folder: Path) -> Path:
    """The sources of the app in examples/dictation."""
    sources = folder / "Dictation"
    shutil.copytree(ROOT / "examples/dictation/Dictation.swiftpm/Sources/Dictation", sources)
    (sources / "Module.swift").write_text(MODULE)
    return sources


def documented(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The Swift code of the README of an artifact, and of the page about apps."""
    fields = copy.deepcopy(MANIFEST)
    change(fields)
    manifest = Manifest.model_validate_json(json.dumps(fields))
    code = documents.readme_code(readme(manifest, ["reference"]))
    folder.mkdir()
    for name in ("listen", "fetch", "prove", "replay"):
        (folder / f"{name}.swift").write_text(code[name])
    (folder / "page.swift").write_text(documents.page_code(manifest.name))
    (folder / "Module.swift").write_text(MODULE)
    return folder


SCORED = {"scorer": {"path": "a.scorer", "sha256": "00" * 32, "lm_alpha": 0.9, "lm_beta": 1.2}}
#: System -> the change of a manifest, whose README is checked for it.
READMES: dict[int, Callable[[dict[str, Any]], object]] = {
    15: lambda _: None,
    18: lambda fields: fields["decoder"].update(SCORED),
    27: lambda fields: fields["model"].update(format="aimodel"),
}


@pytest.mark.parametrize("version", READMES)
def test_every_interface_exists_or_is_guarded_on_ios(
    checker: Checker, version: int, tmp_path: Path
) -> None:
    triple = f"arm64-apple-ios{version}.0"
    found = checker.errors(triple, outlines=version == 18)
    assert checker.app_errors(triple, sample_app(tmp_path)) == []
    assert checker.app_errors(triple, documented(tmp_path / "code", READMES[version])) == []
    # Earlier systems require these functions, which have no other names.
    deprecated = ["requestRecordPermission"] * (version >= 17) + ["compileModel(at:)"] * (
        version >= 27
    )
    assert len(found) == len(deprecated), found
    for line, name in zip(found, deprecated, strict=True):
        assert f"warning: '{name}" in line
        assert "was deprecated" in line


#: Faults of the app in examples/dictation: correct text, wrong text, and the message.
APP_FAULTS = {
    "state": ("Text(dictation.partial)", "Text(dictation.parts)", "has no member 'parts'"),
    "actor": ("for try await event", "for try event", "to conform to 'Sequence'"),
    "rate": (".pieces(at: rate)", ".pieces(at: 16_000.5)", "cannot convert value of type 'Double'"),
    "channel": ("channel: delivery.channel, from", "at: delivery.channel, from", "extra argument"),
}


@pytest.mark.parametrize("fault", APP_FAULTS)
def test_a_fault_of_the_sample_app_is_an_error(
    checker: Checker, fault: str, tmp_path: Path
) -> None:
    sources, (right, wrong, message) = sample_app(tmp_path), APP_FAULTS[fault]
    code = {file: file.read_text() for file in sources.glob("*.swift")}
    (changed,) = (file for file, text in code.items() if right in text)
    changed.write_text(code[changed].replace(right, wrong))
    triple = "arm64-apple-ios18.0"
    checker.errors(triple, outlines=True)
    found = checker.app_errors(triple, sources)
    assert any(message in line for line in found), found


def test_every_interface_exists_or_is_guarded_on_macos(checker: Checker) -> None:
    assert checker.errors("x86_64-apple-macos12.0") == []


def test_a_target_below_the_oldest_system_gives_errors(checker: Checker) -> None:
    found = checker.errors("x86_64-apple-macos11.0", outlines=True)
    assert any("'MLShapedArray' is only available in macOS 12" in line for line in found)


FAULTS = {
    "units": (
        "if #available(iOS 16, macOS 13, *) { return .cpuAndNeuralEngine }",
        "if #available(iOS 15, macOS 12, *) { return .cpuAndNeuralEngine }",
        "'cpuAndNeuralEngine' is only available in",
    ),
    "function": (
        "guard #available(iOS 18, macOS 15, *) else {\n                throw ASRError.unsupported("
        '"a package of several functions on this system")\n            }',
        "",
        "'functionName' is only available in",
    ),
    "state": (
        "guard #available(iOS 18, macOS 15, *) else {\n            throw ASRError.unsupported("
        '"a package that keeps its state on this system")\n        }',
        "",
        "is only available in",
    ),
    "async": (
        "if #available(iOS 17, macOS 14, *) {",
        "if #available(iOS 16, macOS 13, *) {",
        "no 'async' operations occur within 'await'",
    ),
    "compile": (
        "if #available(iOS 16, macOS 13, *) { return try await MLModel.compileModel(at: url) }",
        "if true { return try await MLModel.compileModel(at: url) }",
        "no 'async' operations occur within 'await'",
    ),
    "type": (
        "MLShapedArray<Float>(converting: array)",
        "MLShapedArray<Double>(converting: array)",
        "type 'Double' does not conform to protocol 'MLShapedArrayScalar'",
    ),
    "label": ("shapedArray: MLShapedArray<Float>", "multiArray: MLShapedArray<Float>", "label"),
}


def spoiled(
    checker: Checker, folder: Path, file: str, fault: tuple[str, str, str], triple: str
) -> list[str]:
    """The complaints with the fault's message about a file with a fault."""
    right, wrong, message = fault
    module = Path(file).parent
    shutil.copytree(checker.sources / module, folder / module)
    text = (folder / file).read_text()
    assert right in text
    (folder / file).write_text(text.replace(right, wrong, 1))
    found = checker.errors(triple, folder / module)
    return [line for line in found if line.startswith(Path(file).name) and message in line]


#: Faults of the microphone's code, on iOS.
SOUND_FAULTS = {
    "permission": (
        "if #available(iOS 17, macOS 14, *) {",
        "if true {",
        "'AVAudioApplication' is only available in iOS 17",
    ),
    "session": ("options: .duckOthers)", "options: .mixing)", "has no member 'mixing'"),
    "queue": ("[weak self] buffer, _ in", "[weak self] buffer in", "expects 2 arguments"),
}


@pytest.mark.parametrize("fault", SOUND_FAULTS)
def test_a_fault_of_the_microphone_is_an_error(
    checker: Checker, fault: str, tmp_path: Path
) -> None:
    found = spoiled(
        checker, tmp_path, "ASRAudio/Microphone.swift", SOUND_FAULTS[fault], "arm64-apple-ios15.0"
    )
    assert found


#: Faults of the code for Core AI, whose types exist on one system only.
CORE_AI_FAULTS = {
    "system": (
        "@available(iOS 27, macOS 27, *)\npublic final class",
        "public final class",
        "is only available in",
    ),
    "call": ("function.run(inputs: arrays, states: views)", "function.run(arrays, views)", "label"),
}


@pytest.mark.parametrize("fault", CORE_AI_FAULTS)
def test_a_fault_of_core_ai_is_an_error(checker: Checker, fault: str, tmp_path: Path) -> None:
    file, triple = "ASRCoreML/CoreAIModel.swift", "arm64-apple-ios15.0"
    assert spoiled(checker, tmp_path, file, CORE_AI_FAULTS[fault], triple)


#: Faults of the code that fetches artifacts.
DELIVERY_FAULTS = {
    "Ed25519.swift": (
        "isValidSignature(signature, for: message)",
        "isValidSignature(message, by: signature)",
        "label",
    ),
    "ArtifactStore.swift": (
        "values.isExcludedFromBackup = true",
        "values.isExcluded = true",
        "has no member 'isExcluded'",
    ),
}


@pytest.mark.parametrize("file", DELIVERY_FAULTS)
def test_a_fault_of_delivery_is_an_error(checker: Checker, file: str, tmp_path: Path) -> None:
    fault, triple = DELIVERY_FAULTS[file], "arm64-apple-ios15.0"
    assert spoiled(checker, tmp_path, f"ASRDelivery/{file}", fault, triple)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_missing_guard_is_an_error(checker: Checker, fault: str, tmp_path: Path) -> None:
    triple = "x86_64-apple-macos12.0"
    assert spoiled(checker, tmp_path, f"ASRCoreML/{MODEL}", FAULTS[fault], triple)
