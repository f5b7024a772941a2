// Sound in Swift against the libraries that asrbuild's Python side uses: features, WAV files, rates, speech.
// tests/handover/app/comparison writes what is expected into the folder that ASRKIT_EXPECTED names.
import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore

final class ComparisonTests: XCTestCase {
    private struct Book: Decodable {
        let features: [Features]
        let waves: [Wave]
        let rates: [Rate]
        let speech: [Speech]
    }

    private struct Features: Decodable {
        let section: ASRManifest.Features
        let sample_rate: Int
        let samples: String
        let expected: String
    }

    private struct Wave: Decodable {
        let file: String
        let rate: Int
        let channels: Int
        let expected: String
    }

    private struct Rate: Decodable {
        let input: String
        let from: Int
        let to: Int
        let expected: String
        let limit: Float
    }

    private struct Speech: Decodable {
        let input: String
        let rate: Int
        let began: Double
        let ended: Double
    }

    private let folder = URL(
        fileURLWithPath: ProcessInfo.processInfo.environment["ASRKIT_EXPECTED"] ?? "no ASRKIT_EXPECTED"
    )

    private func book() throws -> Book {
        try JSONDecoder().decode(
            Book.self, from: try Data(contentsOf: folder.appendingPathComponent("book.json"))
        )
    }

    private func array(_ name: String) throws -> [Float] {
        try Npy(contentsOf: folder.appendingPathComponent(name)).values
    }

    func testFeaturesAreThoseOfPython() throws {
        let cases = try book().features
        XCTAssertGreaterThan(cases.count, 30)
        var manifest = try Artifact().manifest
        for expected in cases {
            manifest.features = expected.section
            manifest.audio.sampleRate = expected.sample_rate
            let frontEnd = ASRFrontEnd(try ASRFeatures(manifest))
            let samples = try array(expected.samples).map { Int16($0 * 32768) }
            let values = try array(expected.expected)
            var stream = ASRFeatureStream(frontEnd)
            var found = ASRRows(width: frontEnd.features.width)
            for start in Swift.stride(from: 0, to: samples.count, by: 2_309) {
                let end = min(start + 2_309, samples.count)
                found.append(try stream.push(Array(samples[start..<end])))
            }
            found.append(try stream.finish())
            XCTAssertEqual(found.count, frontEnd.features.steps(samples: samples.count))
            let name = "\(expected.section.kind) \(expected.samples)"
            XCTAssertLessThanOrEqual(largestError(found.values, values), 1e-3, name)
            guard samples.count < 1_000 else { continue }
            XCTAssertEqual(frontEnd(samples), found, name)
        }
    }

    func testWavesAreReadAsLibsndfileReadsThem() throws {
        let cases = try book().waves
        XCTAssertGreaterThan(cases.count, 15)
        for expected in cases {
            let file = try ASRWaveFile(contentsOf: folder.appendingPathComponent(expected.file))
            XCTAssertEqual(file.sampleRate, expected.rate, expected.file)
            XCTAssertEqual(file.channels, expected.channels, expected.file)
            // Means of several channels are rounded in another order.
            let limit: Float = expected.channels == 1 ? 0 : 1e-7
            let error = largestError(try file.samples(), try array(expected.expected))
            XCTAssertLessThanOrEqual(error, limit, expected.file)
        }
    }

    func testRatesAreConvertedAsSoxrAndScipyDo() throws {
        let cases = try book().rates
        XCTAssertGreaterThan(cases.count, 4)
        for expected in cases {
            let input = try array(expected.input)
            let found = try ASRResampler.resample(input, from: expected.from, to: expected.to)
            let error = largestError(found, try array(expected.expected))
            XCTAssertLessThanOrEqual(error, expected.limit, "\(expected.from) to \(expected.to)")
        }
    }

    func testSpeechIsFoundInRecordings() throws {
        for expected in try book().speech {
            var detector = try ASRSpeechDetector(sampleRate: expected.rate)
            let found = detector.push(try array(expected.input))
            guard case .began(let began)? = found.first, case .ended(let ended)? = found.last else {
                XCTFail("no speech in \(expected.input): \(found)")
                continue
            }
            XCTAssertEqual(began, expected.began, accuracy: 0.15, expected.input)
            XCTAssertEqual(ended, expected.ended, accuracy: 0.15, expected.input)
        }
    }
}
