import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

/// Calls that fail: the utterance stays where it was, and no words are lost or made up.
final class FailureTests: XCTestCase {
    private func samples(_ artifact: Artifact) throws -> [Int16] {
        try artifact.samples(try XCTUnwrap(artifact.vectors.recordings.first))
    }

    private func keepsItself(_ artifact: Artifact) -> Bool {
        artifact.manifest.state.contains { $0.kind == .stateful }
    }

    /// Every call of the utterance fails once, `finish` too.
    func testACallThatFailedIsMadeAgain() async throws {
        let artifact = try Artifact()
        let samples = try samples(artifact)
        let calm = Scripted(artifact.manifest)
        let expected = try await ASRTranscriber(manifest: artifact.manifest, model: calm, decoder: .greedy)
            .transcribe(samples)
        let model = Scripted(artifact.manifest) { number, outputs in
            if number % 2 == 0 { throw Interrupted() }
            return outputs
        }
        let transcriber = try ASRTranscriber(manifest: artifact.manifest, model: model, decoder: .greedy)
        let utterance = try transcriber.utterance()
        var failures = 0
        if keepsItself(artifact) {
            do { _ = try await utterance.push(samples) } catch is Interrupted { failures += 1 }
            do { _ = try await utterance.finish() } catch { failures += 1 }
            XCTAssertEqual(failures, 2)
            await fails(.stateLost) { _ = try await utterance.finish() }
            return
        }
        for start in Swift.stride(from: 0, to: samples.count, by: 800) {
            let piece = Array(samples[start..<min(start + 800, samples.count)])
            do { _ = try await utterance.push(piece) } catch is Interrupted { failures += 1 }
        }
        var found: ASRTranscription?
        while found == nil {
            do { found = try await utterance.finish() } catch is Interrupted { failures += 1 }
        }
        XCTAssertEqual(found, expected)
        XCTAssertEqual(failures, calm.states.count)
        XCTAssertEqual(model.states, calm.states.flatMap { [$0, $0] })
        let again = try await utterance.finish()
        XCTAssertEqual(again, expected)
        await fails(.finished) { _ = try await utterance.push([Int16](repeating: 0, count: 8)) }
    }

    /// NaN in a row or in a state is an error, not a space; the next compute units take the call.
    func testOutputsThatAreNotNumbersAreNotWords() async throws {
        let artifact = try Artifact()
        let samples = try samples(artifact)
        let calm = try await ASRTranscriber(
            manifest: artifact.manifest, model: Scripted(artifact.manifest), decoder: .greedy
        ).transcribe(samples)
        let names = artifact.manifest.model.outputs.filter {
            [.probabilities, .logProbabilities, .logits, .state].contains($0.meaning)
        }.map(\.name)
        for name in names {
            for value in [Float.nan, .infinity] {
                let spoil: Scripted.Change = { number, outputs in
                    guard number == 0, let tensor = outputs[name] else { return outputs }
                    let values = [value] + tensor.values.dropFirst()
                    return outputs.merging([name: ASRTensor(shape: tensor.shape, values: values)]) { $1 }
                }
                // A package that keeps its state cannot be asked twice, on no unit.
                let alone = Scripted(
                    artifact.manifest,
                    fallback: keepsItself(artifact) ? Scripted(artifact.manifest) : nil, change: spoil
                )
                let first = try ASRTranscriber(manifest: artifact.manifest, model: alone, decoder: .greedy)
                await fails(.badOutput("")) { _ = try await first.transcribe(samples) }
                guard !keepsItself(artifact) else { continue }
                let cpu = Scripted(artifact.manifest)
                let both = Scripted(artifact.manifest, fallback: cpu, change: spoil)
                let found = try await ASRTranscriber(
                    manifest: artifact.manifest, model: both, decoder: .greedy
                ).transcribe(samples)
                XCTAssertEqual(found, calm, name)
                XCTAssertEqual(both.states.count, 1)
            }
        }
    }

    /// Every recommendation of a size that the package does not take.
    func testMoreStepsThanOneCallTakesAreRefused() async throws {
        var manifest = try Artifact().taking(7)
        manifest.streaming.stepsPerChunk = nil
        let width = try Laid.fed(manifest).width
        var stream = try ASRAcousticStream(model: Scripted(manifest), manifest: manifest)
        _ = try await stream.feed(ASRRows(width: width, values: [Float](repeating: 0, count: 7 * width)))
        let rows = try await stream.finish()
        XCTAssertEqual(rows.count, 7)
        _ = try await stream.feed(ASRRows(width: width, values: [Float](repeating: 0, count: 8 * width)))
        await fails(.tooManySteps(steps: 8, limit: 7)) { _ = try await stream.finish() }
    }

    /// A package that takes an utterance whole and sets no bound fills the memory with none.
    func testAnUtteranceWithoutABoundIsRefusedBeforeItFillsTheMemory() throws {
        var manifest = try Artifact().plain
        manifest.streaming.mode = .whole
        manifest.streaming.stepsPerChunk = nil
        var stream = try ASRAcousticStream(model: Scripted(manifest), manifest: manifest)
        let most = ASRAcousticStream.mostBytes / 4 / stream.width
        func silence(_ steps: Int) -> ASRRows {
            ASRRows(width: stream.width, values: [Float](repeating: 0, count: steps * stream.width))
        }
        let piece = silence(64)
        try stream.append(piece)
        XCTAssertThrowsError(try stream.append(silence(most))) { error in
            XCTAssertEqual(error as? ASRError, .tooManySteps(steps: most + piece.count, limit: most))
        }
    }

    /// A whole utterance of one step more than a call holds is two calls, of exactly one call one.
    func testALongWholeUtteranceIsCutIntoCalls() async throws {
        let chunk = 16
        var manifest = try Artifact().taking(chunk)
        manifest.streaming.stepsPerChunk = chunk
        manifest.streaming.mode = .whole
        let width = try Laid.fed(manifest).width
        for (steps, expected) in [(chunk, [chunk]), (chunk + 1, [chunk, 1])] {
            var stream = try ASRAcousticStream(model: Scripted(manifest), manifest: manifest)
            let windows = ASRRows(width: width, values: [Float](repeating: 0, count: steps * width))
            let first = try await stream.feed(windows)
            XCTAssertEqual(first.count, steps > chunk ? chunk : 0)
            let rest = try await stream.finish()
            XCTAssertEqual(first.count + rest.count, steps)
            XCTAssertEqual(stream.calls.map(\.steps), expected)
        }
    }
}
