import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

final class FeatureTests: XCTestCase {
    private func frontEnd(_ artifact: Artifact) throws -> ASRFrontEnd {
        ASRFrontEnd(try ASRFeatures(artifact.manifest))
    }

    func testFramesAreThoseOfTheKit() throws {
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            let samples = try artifact.samples(recording)
            XCTAssertEqual(samples.count, recording.samples)
            let name = artifact.vectors.steps.contains { $0.name == "mfcc" } ? "mfcc" : nil
            let frames = name == nil
                ? try frontEnd(artifact)(samples) : try frontEnd(artifact).frames(of: samples)
            XCTAssertEqual(frames.count, recording.steps)
            let expected = try name.map { try artifact.rows(recording, $0) } ?? artifact.fed(recording)
            let error = largestError(frames.values, expected.values)
            XCTAssertLessThanOrEqual(error, try limit(name ?? artifact.vectors.fedStep, artifact))
        }
    }

    /// The limit of a step of features; of samples, which are not computed, 0.
    private func limit(_ step: String?, _ artifact: Artifact) throws -> Float {
        try step.map { try artifact.limit($0, "max_abs_error") } ?? 0
    }

    func testTheReferenceVectorOfTheManifest() throws {
        let artifact = try Artifact()
        let manifest = try Data(contentsOf: artifact.folder.appendingPathComponent("manifest.json"))
        let found = try JSONDecoder().decode(Referring.self, from: manifest).features.reference
        // Of samples there is none, and an app computes none of what a package computes.
        guard let reference = found, try !frontEnd(artifact).features.inPackage else { return }
        let url = artifact.folder.appendingPathComponent(reference.audio)
        let frames = try frontEnd(artifact).frames(of: try wav(contentsOf: url))
        XCTAssertEqual(frames.count, reference.total_frames)
        let first = reference.first_frame
        let values = frames[first..<first + reference.frames.count].values
        let expected = reference.frames.flatMap { $0 }
        XCTAssertLessThanOrEqual(largestError(values, expected), Float(reference.tolerance))
    }

    /// The part of a manifest that a device does not read.
    private struct Referring: Decodable {
        let features: Features

        struct Features: Decodable {
            let reference: Reference?
        }

        struct Reference: Decodable {
            let audio: String
            let total_frames: Int
            let first_frame: Int
            let frames: [[Float]]
            let tolerance: Double
        }
    }

    func testWindowsDoNotDependOnHowTheSamplesArrive() throws {
        let artifact = try Artifact()
        let pieces = [1, 319, 320, 4_111, 100_000]
        for recording in artifact.vectors.recordings {
            let samples = try artifact.samples(recording)
            let expected = try artifact.fed(recording).values
            let limit = try limit(artifact.vectors.fedStep, artifact)
            for piece in pieces where piece > 1 || samples.count < 6000 {
                var stream = ASRFeatureStream(try frontEnd(artifact))
                var found: [Float] = []
                for start in Swift.stride(from: 0, to: samples.count, by: piece) {
                    let end = min(start + piece, samples.count)
                    found += try stream.push(Array(samples[start..<end])).values
                }
                found += try stream.finish().values
                XCTAssertLessThanOrEqual(largestError(found, expected), limit, "pieces of \(piece)")
                XCTAssertThrowsError(try stream.push([0]))
                XCTAssertThrowsError(try stream.finish())
            }
        }
    }

    func testSilenceIsTheFloor() throws {
        let own = try ASRFeatures(try Artifact().manifest)
        let settings = own.kind == .mfcc && !own.inPackage ? own : ASRFeatures(.mfcc)
        let frames = ASRFrontEnd(settings).frames(of: [Int16](repeating: 0, count: settings.window))
        let bands = Double(settings.melBands)
        let first = (2 / bands).squareRoot() * bands * log(settings.logFloor)
        XCTAssertEqual(Double(frames.values[0]), first, accuracy: 1e-3)
        XCTAssertLessThan(frames.values.dropFirst().map { abs($0) }.max() ?? 0, 1e-3)
    }

    func testFloatSamplesAreRoundedAndClipped() throws {
        let given: [Float] = [0, 1, -1, 2, -2, 0.5, 1.4 / 32768, 1.5 / 32768, 2.5 / 32768, -1.5 / 32768]
        let expected: [Int16] = [0, 32767, -32768, 32767, -32768, 16384, 1, 2, 2, -2]
        XCTAssertEqual(try given.map(pcm), expected)
        XCTAssertThrowsError(try pcm(.nan))
        XCTAssertThrowsError(try pcm(.infinity))
    }
}
