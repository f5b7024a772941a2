"""Mutation tests of the app kit: its own tests must find changes to its data and code.

    uv run python -m benchmarks.app_kit

builds an artifact and its Swift package (with a stand-in for Core ML that calls asrbuild's
executor), makes each change of the tables, runs the tests, and takes the change back. A change is
found if a test fails or the code does not compile. At least 95 % must be found; the others are
printed, with a reason if the tables give one. It takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.artifact.reading import read_manifest
from asrbuild.base import terminal
from asrbuild.handover.app.kit import write_folder
from tests.acceptance.conftest import run_asrbuild
from tests.handover.app.test_toolchain import STAND_IN, serving

LEAST = 0.95
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Data:
    """A change to a file of the artifact."""

    name: str
    change: Change


@dataclass(frozen=True)
class Code:
    """A change to a source of the kit: text and what replaces it."""

    file: str
    right: str
    wrong: str

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}: {self.right[:40]!r} -> {self.wrong[:40]!r}"


def manifest(path: str, value: Any) -> Data:
    """Changes a value of ``manifest.json`` by its path; a function gets the present one."""

    def change(artifact: Path) -> None:
        file = artifact / "manifest.json"
        whole = json.loads(file.read_text())
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = whole
        for part in way:
            at = at[part]
        at[last] = value(at[last]) if callable(value) else value
        file.write_text(json.dumps(whole))

    return Data(f"manifest {path}", change)


def array(name: str, change: Callable[[np.ndarray], object], recording: str = "reference") -> Data:
    """Changes values of an array of a recording."""

    def run(artifact: Path) -> None:
        file = artifact / "conformance" / recording / f"{name}.npy"
        values = np.load(file)
        change(values)
        np.save(file, values)

    return Data(f"{recording}/{name}.npy", run)


def book(name: str, change: Callable[[Any], object]) -> Data:
    """A change to ``steps.json``."""

    def run(artifact: Path) -> None:
        file = artifact / "conformance" / "steps.json"
        whole = json.loads(file.read_text())
        change(whole)
        file.write_text(json.dumps(whole))

    return Data(f"steps.json {name}", run)


def add(value: float, at: Any = 0) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[at] += value

    return change


def swap(first: int, second: int) -> Callable[[list[str]], list[str]]:
    def change(labels: list[str]) -> list[str]:
        labels[first], labels[second] = labels[second], labels[first]
        return labels

    return change


def flip(artifact: Path) -> None:
    file = artifact / "conformance" / "reference" / "audio.wav"
    raw = bytearray(file.read_bytes())
    raw[10_000] ^= 0x40
    file.write_bytes(raw)


def weight(artifact: Path) -> None:
    (file,) = artifact.rglob("weight.bin")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0x80
    raw[len(raw) // 3] ^= 0x80
    file.write_bytes(raw)


DATA = (
    manifest("features.mel_bands", 41),
    manifest("features.lower_hz", 20.5),
    manifest("features.upper_hz", 7000.0),
    manifest("features.coefficients", 25),
    manifest("features.log_floor", 1e-10),
    manifest("features.context_frames", 8),
    manifest("features.step_samples", 321),
    manifest("features.window_samples", 511),
    manifest("features.fft_size", 1024),
    manifest("features.step_ms", 21.0),
    manifest("audio.sample_rate", 8000),
    manifest("audio.sample_scale", 1.0),
    manifest("audio.channels", 2),
    manifest("decoder.blank_index", 27),
    manifest("decoder.alphabet", swap(5, 20)),
    manifest("decoder.alphabet", swap(1, 2)),
    manifest("decoder.utf8", True),
    manifest("streaming.steps_per_chunk", 15),
    manifest("streaming.mode", "whole"),
    manifest("model.inputs.0.name", "other"),
    manifest("model.inputs.0.dtype", "int32"),
    manifest("model.inputs.0.shape.2.default", 18),
    manifest("model.package", "other.mlpackage"),
    manifest("model.functions.0.name", "other"),
    manifest("state.0.input", lambda name: name + "_"),
    manifest("state.0.shape", lambda shape: [*shape[:-1], shape[-1] + 1]),
    manifest("schema_version", "3.0"),
    manifest("weather", 1),
    array("mfcc", add(0.01, (3, 4))),
    array("windows", add(0.01, (3, 4, 5))),
    array("probabilities", add(0.3, (7, 3))),
    array("probabilities", add(0.05, (50, 28))),
    array("new_state_c", add(0.5, (1, 0, 3))),
    array("new_state_h", add(0.5, (2, 0, 3))),
    array("previous_state_c", add(0.5, (1, 0, 3))),
    array("mfcc", add(0.01, (0, 0)), "silence"),
    array("mfcc", add(0.01, (1, 2)), "full_scale"),
    Data("a bit of the sound", flip),
    Data("two bits of the weights", weight),
    book("a word 20 ms late", lambda b: b["recordings"][0]["words"][1].update(start_s=9.0)),
    book("a word's confidence", lambda b: b["recordings"][0]["words"][0].update(confidence=0.5)),
    book("another text", lambda b: b["recordings"][0].update(text="hello")),
    book("a call less", lambda b: b["recordings"][0]["calls"].pop()),
    book("a call's size", lambda b: b["recordings"][0]["calls"][0].update(size=17)),
)
CORE, SESSION = "ASRCore/", "ASRSession/"
STREAM = CORE + "Model/Streaming.swift"
CODE = (
    Code(STREAM, "taken += request.passed", "taken += request.steps + 1"),
    Code(STREAM, "        state = answer.state\n", ""),
    Code(STREAM, "        model = answer.model\n", ""),
    Code(STREAM, "lost = kept != nil", "lost = false"),
    Code(STREAM, "guard kept == nil, let other", "guard let other"),
    Code(STREAM, "guard !lost else", "guard true else"),
    Code(STREAM, "guard values.allSatisfy(\\.isFinite) else", "guard true else"),
    Code(STREAM, "guard found.values.count == count else", "guard true else"),
    Code(STREAM, "size <= axis.max ?? Int.max", "true"),
    Code(STREAM, "count > size || (count == size && !whole)", "count >= size"),
    Code(
        STREAM,
        "values += [Float](repeating: 0, count: (size - steps)",
        "values += [Float](repeating: 1, count: (size - steps)",
    ),
    Code(
        STREAM,
        "values: [Float](repeating: Float(steps), count: count)",
        "values: [Float](repeating: Float(size), count: count)",
    ),
    Code(STREAM, "decoded.stand(given, count))[request.keep]", "decoded.stand(given, count))"),
    Code(STREAM, "passed += request.passed\n", ""),
    Code(STREAM, "<= Self.mostBytes else", "<= Int.max else"),
    Code(SESSION + "Transcriber.swift", "            ending = true\n", ""),
    Code(
        SESSION + "Transcriber.swift",
        "        await begin()\n        defer { end() }\n        try acoustic",
        "        try acoustic",
    ),
    Code(SESSION + "Transcriber.swift", "acoustic.failed()", "acoustic = acoustic"),
    Code(SESSION + "Transcriber.swift", "by: settings.sampleRate", "by: settings.sampleRate + 1"),
    Code(SESSION + "Recognizer.swift", "guard text == last else", "guard text != last else"),
    Code(SESSION + "Recognizer.swift", "try Task.checkCancellation()", "_ = 0"),
    Code(SESSION + "Recognizer.swift", "if loading == task { loading = nil }", "_ = 0"),
    Code(
        SESSION + "Recognizer.swift",
        "                over = true\n                throw error",
        "                throw error",
    ),
    Code(CORE + "Features/Samples.swift", "* 32768)", "* 32767)"),
    Code(CORE + "Features/Samples.swift", "guard sample.isFinite else", "guard true else"),
    Code(CORE + "Features/Samples.swift", ".toNearestOrEven", ".toNearestOrAwayFromZero"),
    Code(
        CORE + "Manifest/Variants.swift",
        "guard let oldest = model.minimumOs[system.name], !loads(on: system) else { return }",
        "return;",
    ),
    Code(
        CORE + "Manifest/Variants.swift",
        "? .cpuOnly : model.recommendedComputeUnits",
        "? model.recommendedComputeUnits : model.recommendedComputeUnits",
    ),
    Code(
        CORE + "Manifest/Variants.swift",
        "!padded(numbers).lexicographicallyPrecedes(padded(other.numbers))",
        "padded(other.numbers).lexicographicallyPrecedes(padded(numbers))",
    ),
    Code(CORE + "Manifest/ManifestReading.swift", "given[1] > own[1]", "true"),
    Code(CORE + "Manifest/ManifestReading.swift", "given[1] > own[1]", "false"),
    Code(CORE + "Manifest/ManifestReading.swift", "$0[0] == given[0]", "$0[0] <= given[0]"),
    Code(
        CORE + "Manifest/StrictCoding.swift",
        "guard container.contains(key) else",
        "guard true else",
    ),
    Code(
        CORE + "Manifest/ModelInterface.swift",
        'try expectSame("states", file.states, Set(kept))',
        "_ = kept",
    ),
    Code(CORE + "Manifest/ModelInterface.swift", "if !input.shape.isEmpty {", "if false {"),
    Code(
        CORE + "Manifest/Artifact.swift",
        '!parts.contains(where: { ["", ".", ".."].contains($0) })',
        "true",
    ),
    Code(
        CORE + "Manifest/Artifact.swift",
        "for url in [compiled, package]",
        "for url in [package, compiled]",
    ),
    Code(
        CORE + "SHA256.swift",
        "(119 - Int(count % 64)) % 64",
        "(55 - Int(count % 64) + 64) % 64 + 64",
    ),
    Code("ASRCoreML/CompiledModels.swift", "if unused || !name.hasSuffix", "if !name.hasSuffix"),
    Code(
        "ASRCoreML/CompiledModels.swift",
        "\\(manifest.packageDigest)-\\(build).mlmodelc",
        "\\(build).mlmodelc",
    ),
    Code(
        "ASRCoreML/CoreMLModel.swift",
        "configuration.functionName = manifest.model.defaultFunction",
        "configuration.functionName = nil",
    ),
    Code(
        "ASRCoreML/CoreMLModel.swift",
        "let whole = tensor.values.map { Int32($0) }",
        "let whole = tensor.values.map { Int32($0) + 1 }",
    ),
    Code(
        "ASRConformance/ConformanceReport.swift",
        "value >= limit : value <= limit",
        "value >= limit : true",
    ),
    Code(
        "ASRConformance/ConformanceReport.swift",
        "(1 - tie) { agreeing += 1 }",
        "(1 - tie) || true { agreeing += 1 }",
    ),
)
#: Changes that the tests cannot find, with the reason. They count as not found.
KNOWN = {
    "Transcriber: 'by: settings.sampleRate' -> 'by: settings.sampleRate + 1'": "the same function",
}


@contextmanager
def changed(change: Data | Code, artifact: Path, package: Path) -> Iterator[None]:
    """Makes the change for the block, and takes it back at the end."""
    if isinstance(change, Data):
        kept = artifact.with_name("kept")
        shutil.copytree(artifact, kept, ignore=shutil.ignore_patterns("ASRKit"))
        try:
            change.change(artifact)
            yield
        finally:
            shutil.copytree(kept, artifact, dirs_exist_ok=True)
            shutil.rmtree(kept)
        return
    file = package / "Sources" / change.file
    text = file.read_text()
    assert change.right in text, f"{change.file} does not have {change.right!r} any more"
    try:
        file.write_text(text.replace(change.right, change.wrong, 1))
        yield
    finally:
        file.write_text(text)


def swift(package: Path, artifact: Path, *command: str) -> bool:
    """Whether the tests pass, with the executor as Core ML."""
    with tempfile.TemporaryDirectory() as folder:
        pipes = Path(folder, "pipes")
        with serving(artifact, read_manifest(KEPT[0]), pipes):
            done = subprocess.run(
                ["swift", *command, "--package-path", str(package)],
                env=os.environ
                | {
                    "ASRKIT_ARTIFACT": str(artifact),
                    "ASRKIT_EXECUTOR": str(pipes),
                    "XDG_DATA_HOME": folder,
                },
                capture_output=True,
                text=True,
                check=False,
                timeout=900,
            )
    return done.returncode == 0


#: The unchanged artifact: the executor does not read the changed manifest.
KEPT: list[Path] = []


def main() -> int:
    """Makes every change; the exit code."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    root = Path(tempfile.mkdtemp(prefix="asrkit-changes-"))
    try:
        done = run_asrbuild("model=static", "name=changed", "verify=quick", cwd=root)
        assert done.code == 0, done.err
        (published,) = (p for p in (root / "artifacts" / "changed").iterdir() if p.is_dir())
        KEPT.append(published)
        artifact, package = root / "app", root / "ASRKit"
        write_folder(artifact, published, read_manifest(published))
        shutil.move(artifact / "ASRKit", package)
        shutil.copytree(STAND_IN, package / "Sources" / "CoreML")
        settings = (package / "Package.swift").read_text()
        place = '.target(name: "ASRCoreML", dependencies: ["ASRCore"'
        more = f'.target(name: "CoreML"),\n        {place}, "CoreML"'
        (package / "Package.swift").write_text(settings.replace(place, more))
        assert swift(package, artifact, "test"), "without a change the tests pass"
        found, left = 0, []
        changes = [*DATA, *CODE]
        for change in changes:
            start = time.monotonic()
            with changed(change, artifact, package):
                command = ("test", "--skip-build") if isinstance(change, Data) else ("test",)
                seen = not swift(package, artifact, *command)
            found += seen
            if not seen:
                left.append(change.name)
            mark = "found" if seen else "NOT FOUND"
            terminal.say(f"{mark:<10} {time.monotonic() - start:5.1f} s  {change.name}")
        share = found / len(changes)
        terminal.say(f"{found} of {len(changes)} changes were found: {100 * share:.1f} %")
        for name in left:
            terminal.say(f"  not found: {name}: {KNOWN.get(name, 'a hole in the tests')}")
        return 0 if share >= LEAST else 1
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=False)
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
