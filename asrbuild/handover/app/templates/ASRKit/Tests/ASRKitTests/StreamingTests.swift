import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

final class StreamingTests: XCTestCase {
    func testCallsStatesAndRowsAreThoseOfTheKit() async throws {
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            let windows = try artifact.fed(recording)
            // A sample is a step of its own.
            let factor = windows.width == 1 ? 997 : 1
            for piece in [1, 5, 16, 17, 1000].map({ factor * $0 }) {
                let replay = artifact.replay(recording)
                var stream = try ASRAcousticStream(model: replay, manifest: artifact.manifest)
                let rows = try artifact.rows(recording, "probabilities")
                var found = ASRRows(width: rows.width)
                for start in Swift.stride(from: 0, to: windows.count, by: piece) {
                    found.append(try await stream.feed(windows[start..<min(start + piece, windows.count)]))
                }
                found.append(try await stream.finish())
                XCTAssertEqual(stream.calls, recording.calls.map(\.call))
                XCTAssertFalse(found.values.contains { $0.isNaN })
                // Logarithms and their exponentials are rounded.
                let exact = try Laid.decoded(artifact.manifest).meaning == .probabilities
                XCTAssertLessThanOrEqual(
                    largestError(found.values, rows.values), exact ? 0 : 1e-6,
                    "\(recording.name) in pieces of \(piece)"
                )
                try checkCarried(stream, artifact, recording)
            }
        }
    }

    private func checkCarried(
        _ stream: ASRAcousticStream, _ artifact: Artifact, _ recording: Recording
    ) throws {
        let explicit = artifact.manifest.state.filter { $0.kind == .explicit }
        guard let last = recording.calls.last else {
            let zeros = explicit.filter { $0.initial == .zeros }.compactMap { stream.carried[$0.output] }
            XCTAssertTrue(zeros.allSatisfy { $0.values.allSatisfy { $0 == 0 } })
            return
        }
        XCTAssertTrue(last.stateValid)
        XCTAssertEqual(Set(stream.carried.keys), Set(explicit.map(\.output)))
        for (name, value) in stream.carried {
            let given = try artifact.vectors.array(recording, name).values
            XCTAssertEqual(value.values, Array(given.suffix(value.values.count)), name)
        }
    }

    func testAnUtteranceBeginsWithZeros() async throws {
        let artifact = try Artifact()
        let recording = try XCTUnwrap(artifact.vectors.recordings.first)
        // Replay requires zeros in the first call, so a state left from the first utterance fails.
        for _ in 0..<2 {
            let replay = artifact.replay(recording)
            var stream = try ASRAcousticStream(model: replay, manifest: artifact.manifest)
            _ = try await stream.feed(try artifact.fed(recording))
            _ = try await stream.finish()
            let made = await replay.made
            XCTAssertEqual(made, recording.calls.count)
        }
    }

    func testRowsOfACallFollowTheManifest() throws {
        var manifest = try Artifact().plain
        XCTAssertEqual([0, 1, 16].map(RowCount(manifest).of), [0, 1, 16])
        let rule = #"{"steps": 3, "add": -4, "most": 5, "row_ms": 30}"#
        manifest.rows = try JSONDecoder().decode(ASRManifest.RowRule.self, from: Data(rule.utf8))
        let counts = [0, 4, 6, 7, 9, 10, 18, 19, 22, 100].map(RowCount(manifest).of)
        XCTAssertEqual(counts, [0, 0, 0, 1, 1, 2, 4, 5, 5, 5])
    }

    /// Without a name that says so, time is the second axis of an input and the first of an output.
    func testTheAxisOfTimeHasAPlaceWhereItHasNoName() throws {
        var manifest = try Artifact().manifest
        func unnamed(_ tensor: ASRManifest.Tensor) -> ASRManifest.Tensor {
            var tensor = tensor
            for axis in tensor.shape.indices { tensor.shape[axis].name = "axis_\(axis)" }
            return tensor
        }
        manifest.model.inputs = manifest.model.inputs.map(unnamed)
        manifest.model.outputs = manifest.model.outputs.map(unnamed)
        XCTAssertEqual(try Laid.fed(manifest).shape(333).firstIndex(of: 333), 1)
        XCTAssertEqual(try Laid.decoded(manifest).shape(333).firstIndex(of: 333), 0)
    }

    func testOutputsOfAnotherSizeAreRefused() async throws {
        let artifact = try Artifact()
        let model = Scripted(artifact.manifest) { _, outputs in
            outputs.mapValues { _ in ASRTensor(shape: [1], values: [0]) }
        }
        var stream = try ASRAcousticStream(model: model, manifest: artifact.manifest)
        await fails(.badOutput("")) { _ = try await stream.finish(after: artifact) }
    }
}
