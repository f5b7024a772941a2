"""An hour of sound in pieces of 20 ms through the app kit in Swift, in release: time and memory.

    uv run python -m benchmarks.app_kit_hour

The package's outputs are precomputed, so that only the kit's work is measured: features, calls,
decoding. Decoding alone must take less than 1 s of processor time, and the process less than 50 MB
more than before the first piece.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from asrbuild.artifact.reading import read_manifest
from asrbuild.base import terminal
from asrbuild.handover.app.kit import write_folder
from tests.acceptance.conftest import run_asrbuild

MOST_SECONDS, MOST_BYTES = 1.0, 50_000_000
PACKAGE = """// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "Hour", dependencies: [.package(path: "app/ASRKit")],
    targets: [.executableTarget(name: "Hour", dependencies: ["ASRKit"])]
)
"""
PROGRAM = """
import ASRKit
import Foundation

/// A letter on every fifth step, a space on every thirtieth.
final class Letters: ASRAcousticModel {
    let manifest: ASRManifest
    init(_ manifest: ASRManifest) { self.manifest = manifest }
    func makeState() throws -> (any ASRModelState)? { nil }

    static func row(_ step: Int, _ classes: Int) -> [Float] {
        var row = [Float](repeating: 0, count: classes)
        row[step % 30 == 0 ? 0 : step % 5 == 0 ? 1 + step / 5 % 20 : classes - 1] = 1
        return row
    }

    func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        var outputs: [String: ASRTensor] = [:]
        for pair in manifest.state { outputs[pair.output] = inputs[pair.input] }
        let described = manifest.model.outputs.first { $0.meaning == .probabilities }!
        let features = manifest.model.inputs.first { $0.meaning == .features }!
        let (size, classes) = (inputs[features.name]!.shape[1], described.shape.last!.default)
        let values = (0..<size).flatMap { Self.row($0, classes) }
        outputs[described.name] = ASRTensor(shape: [size, 1, classes], values: values)
        return outputs
    }
}

func processor() -> Double { Double(clock()) / Double(CLOCKS_PER_SEC) }

func memory(_ key: String) -> Int {
    let status = try! String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status.split(separator: "\\n").first { $0.hasPrefix(key) }!
    return 1024 * Int(line.split(whereSeparator: { $0 == " " || $0 == "\\t" })[1])!
}

@main
struct Hour {
    static func main() async throws {
        let manifest = try ASRManifest.read(
            contentsOf: URL(fileURLWithPath: CommandLine.arguments[1])
        )
        let transcriber = try ASRTranscriber(manifest: manifest, model: Letters(manifest))
        let pieces = (0..<50).map { piece in
            (0..<320).map { Float(sin(Double(320 * piece + $0) / 20)) / 2 }
        }
        let utterance = try transcriber.utterance()
        _ = try await utterance.push(pieces[0])
        let (before, start) = (memory("VmRSS"), processor())
        for piece in 1..<180_000 { _ = try await utterance.push(pieces[piece % 50]) }
        let text = try await utterance.finish().text
        let whole = processor() - start
        let more = memory("VmHWM") - before

        let model = Letters(manifest)
        let classes = manifest.decoder.blankIndex! + 1
        let rows = (0..<600).map { ASRRows(width: classes, values: Letters.row($0, classes)) }
        _ = model
        var decoder = try ASRDecoder(.greedy, manifest)
        let began = processor()
        for step in 0..<180_000 { _ = try decoder.feed(rows[step % 600]) }
        let decoding = processor() - began
        print("whole_s \\(whole) decoding_s \\(decoding) bytes \\(more) letters \\(text.count)")
    }
}
"""


def main() -> int:
    """Measures; the exit code."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    root = Path(tempfile.mkdtemp(prefix="asrkit-hour-"))
    try:
        done = run_asrbuild("model=static", "name=hour", "verify=quick", cwd=root)
        assert done.code == 0, done.err
        (artifact,) = (p for p in (root / "artifacts" / "hour").iterdir() if p.is_dir())
        write_folder(root / "app", artifact, read_manifest(artifact))
        sources = root / "Sources" / "Hour"
        sources.mkdir(parents=True)
        (root / "Package.swift").write_text(PACKAGE)
        (sources / "Hour.swift").write_text(PROGRAM)
        command = ["swift", "run", "-c", "release", "--package-path", str(root), "Hour"]
        ran = subprocess.run(
            [*command, str(artifact / "manifest.json")],
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        found = {k: float(v) for k, v in re.findall(r"(\w+) ([\d.e-]+)", ran.stdout)}
        terminal.say(json.dumps(found))
        good = found["decoding_s"] < MOST_SECONDS and found["bytes"] < MOST_BYTES
        terminal.say("within the limits" if good else "NOT within the limits")
        return 0 if good and found["letters"] > 10_000 else 1
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=False)
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
