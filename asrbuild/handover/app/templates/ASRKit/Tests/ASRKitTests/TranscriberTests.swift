import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

/// From samples to words: with the recorded outputs of the package, and on a Mac with Core ML.
final class TranscriberTests: XCTestCase {
    func testSamplesBecomeWords() async throws {
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            let replay = artifact.replay(recording)
            let transcriber = try ASRTranscriber(
                manifest: artifact.manifest, model: replay, decoder: .greedy
            )
            let utterance = try transcriber.utterance()
            let samples = try artifact.samples(recording)
            var partial = ""
            for start in Swift.stride(from: 0, to: samples.count, by: 1600) {
                let end = min(start + 1600, samples.count)
                partial = try await utterance.push(Array(samples[start..<end]))
            }
            let found = try await utterance.finish()
            let decoding = await utterance.decoding
            XCTAssertEqual(decoding.calls, recording.calls.count + 1)
            XCTAssertTrue(0 <= decoding.longest && decoding.longest <= decoding.seconds)
            XCTAssertTrue(found.text.hasPrefix(partial), "'\(partial)' of '\(found.text)'")
            try expect(found, recording, times: 1e-9, confidence: 1e-6)
            let shares = Shares()
            let whole = try await ASRTranscriber(
                manifest: artifact.manifest, model: artifact.replay(recording), decoder: .greedy
            ).transcribe(samples) { shares.add($0) }
            XCTAssertEqual(whole, found)
            XCTAssertEqual(shares.all, shares.all.sorted())
            XCTAssertEqual(shares.all.last, samples.isEmpty ? nil : 1)
        }
    }

    private final class Shares: @unchecked Sendable {
        private let lock = NSLock()
        private var given: [Double] = []

        var all: [Double] { lock.withLock { given } }

        func add(_ share: Double) { lock.withLock { given.append(share) } }
    }

    /// Writes this runtime's results on the kit to the folder `ASRKIT_RESULTS`, for `check.py`.
    func testResultsForTheChecker() async throws {
        guard let path = ProcessInfo.processInfo.environment["ASRKIT_RESULTS"] else {
            throw XCTSkip("ASRKIT_RESULTS names no folder")
        }
        let artifact = try Artifact()
        let frontEnd = ASRFrontEnd(try ASRFeatures(artifact.manifest))
        for recording in artifact.vectors.recordings {
            let folder = URL(fileURLWithPath: path).appendingPathComponent(recording.name)
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            func save(_ name: String, _ rows: ASRRows, _ inner: [Int]) throws {
                let file = folder.appendingPathComponent("\(name).npy")
                try Npy.data(rows.values, shape: [rows.count] + inner).write(to: file)
            }
            let samples = try artifact.samples(recording)
            if artifact.vectors.steps.contains(where: { $0.name == "mfcc" }) {
                try save("mfcc", frontEnd.frames(of: samples), [frontEnd.features.coefficients])
            }
            var features = ASRFeatureStream(frontEnd)
            var windows = try features.push(samples)
            windows.append(try features.finish())
            if let step = artifact.vectors.fedStep {
                try save(step, windows, Array(try artifact.vectors.array(recording, step).shape.dropFirst()))
            }
            let model = try await runner(artifact, recording)
            var stream = try ASRAcousticStream(model: model, manifest: artifact.manifest)
            var rows = try await stream.feed(windows)
            rows.append(try await stream.finish())
            try save("probabilities", rows, [rows.width])
            let calls = stream.calls.map { ["first": $0.first, "steps": $0.steps, "size": $0.size] }
            try JSONSerialization.data(withJSONObject: calls)
                .write(to: folder.appendingPathComponent("calls.json"))
            var decoder = try ASRDecoder(.greedy, artifact.manifest)
            _ = try decoder.feed(rows)
            try JSONEncoder().encode(try decoder.transcription)
                .write(to: folder.appendingPathComponent("text.json"))
        }
    }

    private static let keep = FileManager.default.temporaryDirectory
        .appendingPathComponent("asrkit-\(UUID().uuidString)", isDirectory: true)

    override class func tearDown() { try? FileManager.default.removeItem(at: keep) }

    private func runner(_ artifact: Artifact, _ recording: Recording) async throws -> any ASRAcousticModel {
        #if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
        try skipUnlessLoadable(artifact)
        return try await ASRCoreMLModel(
            contentsOf: artifact.folder.appendingPathComponent(artifact.manifest.model.package),
            manifest: artifact.manifest, keep: Self.keep
        )
        #else
        return artifact.replay(recording)
        #endif
    }

    #if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
    /// Whether this Mac is new enough for the package.
    private func skipUnlessLoadable(_ artifact: Artifact) throws {
        #if os(macOS) || os(iOS)
        try XCTSkipUnless(artifact.manifest.loads(on: .current), "the package needs a newer system")
        #endif
    }

    func testCoreMLSaysTheWordsOfTheKit() async throws {
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            let windows = try artifact.fed(recording)
            let model = try await runner(artifact, recording)
            var stream = try ASRAcousticStream(model: model, manifest: artifact.manifest)
            var rows = try await stream.feed(windows)
            rows.append(try await stream.finish())
            let expected = try artifact.rows(recording, "probabilities")
            let limit = try artifact.limit("probabilities", "max_abs_error")
            XCTAssertLessThanOrEqual(largestError(rows.values, expected.values), limit)
            let transcriber = try ASRTranscriber(
                manifest: artifact.manifest, model: model, decoder: .greedy
            )
            let found = try await transcriber.transcribe(try artifact.samples(recording))
            try expect(
                found, recording,
                times: Double(try artifact.limit("words", "time_s")) + 1e-9,
                confidence: Double(try artifact.limit("words", "confidence"))
            )
        }
    }

    func testEveryFunctionGivesTheSame() async throws {
        let artifact = try Artifact()
        let recording = try XCTUnwrap(artifact.vectors.recordings.first)
        let expected = try artifact.rows(recording, "probabilities")
        try skipUnlessLoadable(artifact)
        for function in artifact.manifest.model.functions {
            let manifest = try artifact.manifest.selecting(function: function.name)
            let url = artifact.folder.appendingPathComponent(manifest.model.package)
            let model = try await ASRCoreMLModel(contentsOf: url, manifest: manifest, keep: Self.keep)
            var stream = try ASRAcousticStream(model: model, manifest: manifest)
            var rows = try await stream.feed(try artifact.fed(recording))
            rows.append(try await stream.finish())
            let limit = try artifact.limit("probabilities", "max_abs_error")
            XCTAssertLessThanOrEqual(largestError(rows.values, expected.values), limit, function.name)
        }
    }
    #endif
}
