import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

/// Events of an utterance, from samples as a microphone gives them.
final class RecognizerTests: XCTestCase {
    private func floats(_ artifact: Artifact) throws -> [Float] {
        let recording = try XCTUnwrap(artifact.vectors.recordings.first)
        return try artifact.samples(recording).map { Float($0) / 32768 }
    }

    private func pieces(_ samples: [Float], of size: Int) -> AsyncStream<[Float]> {
        AsyncStream { continuation in
            for start in Swift.stride(from: 0, to: samples.count, by: size) {
                continuation.yield(Array(samples[start..<min(start + size, samples.count)]))
            }
            continuation.finish()
        }
    }

    func testPartialTextsThenTheTranscript() async throws {
        let artifact = try Artifact()
        let recording = try XCTUnwrap(artifact.vectors.recordings.first)
        let manifest = artifact.manifest
        let replay = artifact.replay(recording)
        let recognizer = ASRRecognizer {
            try ASRTranscriber(manifest: manifest, model: replay, decoder: .greedy)
        }
        var partial: [String] = []
        var last: ASRTranscription?
        for try await event in recognizer.events(of: pieces(try floats(artifact), of: 320)) {
            XCTAssertNil(last, "an event after the last one")
            switch event {
            case .partial(let text): partial.append(text)
            case .final(let transcription): last = transcription
            }
        }
        try expect(try XCTUnwrap(last), recording, times: 1e-9, confidence: 1e-6)
        XCTAssertEqual(zip(partial, partial.dropFirst()).filter { $0 == $1 }.count, 0)
        XCTAssertTrue(partial.allSatisfy { recording.text.hasPrefix($0) })
        let early = try artifact.textComesEarly() && recording.calls.count > 1
        XCTAssertEqual(partial.isEmpty, !early || recording.text.isEmpty)
    }

    func testCancellingEndsTheWork() async throws {
        // With samples a call is left to be made; without, only the reader notices.
        for count in [32_000, 0] { try await cancel(after: count) }
    }

    /// The source stays open: only cancelling ends the reader.
    private func cancel(after count: Int) async throws {
        let manifest = try Artifact().manifest
        let recognizer = ASRRecognizer {
            try ASRTranscriber(manifest: manifest, model: Scripted(manifest), decoder: .greedy)
        }
        let pieces = Counter()
        let waits = expectation(description: "the next piece is asked for")
        let ended = expectation(description: "the source is cancelled")
        let source = AsyncStream<[Float]>(
            unfolding: {
                if await pieces.next() == 0 { return [Float](repeating: 0, count: count) }
                waits.fulfill()
                try? await Task.sleep(nanoseconds: 60_000_000_000)
                return nil
            },
            onCancel: { ended.fulfill() }
        )
        let reader = Task { () -> [ASREvent] in
            var events: [ASREvent] = []
            for try await event in recognizer.events(of: source) { events.append(event) }
            return events
        }
        await fulfillment(of: [waits], timeout: 10)
        reader.cancel()
        await fulfillment(of: [ended], timeout: 10)
        // The stream ends, or throws `CancellationError` where that came first.
        let events: [ASREvent]
        do { events = try await reader.value } catch is CancellationError { events = [] }
        XCTAssertFalse(events.contains { if case .final = $0 { true } else { false } })
    }

    /// A reader that is slow is not run ahead of: each piece is asked for after the event before it.
    func testNothingRunsAheadOfTheReader() async throws {
        let artifact = try Artifact(), manifest = artifact.manifest
        let recognizer = ASRRecognizer {
            try ASRTranscriber(manifest: manifest, model: Scripted(manifest), decoder: .greedy)
        }
        let asked = Counter()
        let source = AsyncStream<[Float]>(unfolding: {
            await asked.next() < 40 ? [Float](repeating: 0, count: 8_000) : nil
        })
        var events = 0
        for try await event in recognizer.events(of: source) {
            if case .partial = event {
                let before = await asked.count
                try await Task.sleep(nanoseconds: 2_000_000)
                let after = await asked.count
                XCTAssertEqual(before, after)
                events += 1
            }
        }
        // Without a state, the scripted model has one text for calls of a single row.
        let changes = manifest.state.contains { $0.kind == .explicit }
            || RowCount(manifest).of(manifest.streaming.stepsPerChunk ?? 0) > 1
        XCTAssertEqual(events > 2, try artifact.textComesEarly() && changes)
    }

    func testErrorsReachTheReaderAndALoadIsTriedAgain() async throws {
        let manifest = try Artifact().manifest
        let tries = Counter()
        let recognizer = ASRRecognizer {
            if await tries.next() == 0 { throw Interrupted() }
            return try ASRTranscriber(manifest: manifest, model: Scripted(manifest), decoder: .greedy)
        }
        do {
            for try await _ in recognizer.events(of: pieces([0], of: 1)) {}
            XCTFail("no error")
        } catch is Interrupted {}
        async let one = recognizer.prepare()
        async let other = recognizer.prepare()
        _ = try await (one, other)
        let count = await tries.next()
        XCTAssertEqual(count, 2)
        var events = recognizer.events(of: pieces([.nan, 0], of: 1)).makeAsyncIterator()
        do {
            _ = try await events.next()
            XCTFail("no error")
        } catch { XCTAssertEqual(error as? ASRError, .badSamples) }
        let after = try await events.next()
        XCTAssertNil(after, "an event after an error")
    }

    /// Pushes from several tasks run one after another, whole.
    func testPushesFromSeveralTasksDoNotMix() async throws {
        let manifest = try Artifact().manifest
        let model = Scripted(manifest)
        let utterance = try ASRTranscriber(manifest: manifest, model: model, decoder: .greedy).utterance()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<20 {
                group.addTask { _ = try await utterance.push([Int16](repeating: 0, count: 5_000)) }
            }
            try await group.waitForAll()
        }
        _ = try await utterance.finish()
        if manifest.state.contains(where: { $0.kind == .explicit }) {
            XCTAssertEqual(model.states, (0..<model.states.count).map { Float($0) })
        }
    }

    private actor Counter {
        private(set) var count = 0

        func next() -> Int {
            defer { count += 1 }
            return count
        }
    }
}
