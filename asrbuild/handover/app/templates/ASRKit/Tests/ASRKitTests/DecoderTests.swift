import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

final class DecoderTests: XCTestCase {
    func testWordsAreThoseOfTheKit() throws {
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            var decoder = try ASRDecoder(.greedy, artifact.manifest)
            let rows = try artifact.rows(recording, "probabilities")
            for row in 0..<rows.count { _ = try decoder.feed(rows[row..<row + 1]) }
            try expect(try decoder.transcription, recording, times: 1e-9, confidence: 1e-6)
        }
    }

    /// The text of a path of likeliest labels.
    private func decode(_ path: [Int], _ manifest: ASRManifest) throws -> ASRTranscription {
        var decoder = try ASRDecoder(.greedy, manifest)
        for label in path {
            var row = [Float](repeating: 0, count: manifest.decoder.blankIndex! + 1)
            row[label] = 1
            _ = try decoder.feed(ASRRows(width: row.count, values: row))
        }
        return try decoder.transcription
    }

    func testRepeatsMergeUnlessABlankPartsThem() throws {
        let manifest = try Artifact().spelling([" ", "a", "b"])
        XCTAssertEqual(try decode([3, 1, 1, 3, 1, 2, 2, 3, 3], manifest).text, "aab")
        XCTAssertEqual(try decode([], manifest).words, [])
        XCTAssertEqual(try decode([0, 3, 0], manifest).words, [])
        let hop = manifest.features.stepMs / 1000
        XCTAssertEqual(
            try decode([3, 1, 1, 0, 3, 0, 2, 3, 1], manifest),
            ASRTranscription(
                text: "a  ba",
                words: [
                    ASRWord(text: "a", start: hop, end: 2 * hop, confidence: 1),
                    ASRWord(text: "ba", start: 6 * hop, end: 9 * hop, confidence: 1),
                ]
            )
        )
    }

    func testBytesBecomeText() throws {
        var manifest = try Artifact().spelling(
            (1..<256).map { String(UnicodeScalar(UInt8($0))) }, utf8: true
        )
        let path = Array("é 日".utf8).map { Int($0) - 1 }
        let found = try decode(path, manifest)
        XCTAssertEqual(found.text, "é 日")
        XCTAssertEqual(found.words.map(\.text), ["é", "日"])
        XCTAssertEqual(try decode([Int(0xc3) - 1, Int(UInt8(ascii: "a")) - 1], manifest).text, "\u{fffd}a")
        manifest.decoder.alphabet.removeLast()
        XCTAssertThrowsError(try ASRDecoder(.greedy, manifest))
    }

    /// Bytes in any order: the text so far is what decoding all of them at once gives.
    func testTextInPiecesEqualsTextAtOnce() throws {
        let manifest = try Artifact().spelling(
            (1..<256).map { String(UnicodeScalar(UInt8($0))) }, utf8: true
        )
        let kinds: [UInt8] = [0x61, 0x20, 0x80, 0xbf, 0xc3, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xff, 0xed, 0xa0]
        var random = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            let bytes = (0..<40).map { _ in kinds.randomElement(using: &random)! }
            var decoder = try ASRDecoder(.greedy, manifest)
            for (index, byte) in bytes.enumerated() {
                for label in [Int(byte) - 1, 255] {
                    var row = [Float](repeating: 0, count: 256)
                    row[label] = 1
                    _ = try decoder.feed(ASRRows(width: 256, values: row))
                }
                XCTAssertEqual(
                    Array(decoder.text.utf8),
                    Array(String(decoding: bytes[...index], as: UTF8.self).utf8), "\(bytes)"
                )
            }
        }
    }

    func testOutputsBecomeProbabilities() throws {
        let third = log(Float(1) / 3)
        let cases: [(ASRManifest.Tensor.Meaning, [Float], [Float])] = [
            (.probabilities, [0.25, 0.75], [0.25, 0.75]),
            (.logProbabilities, [third, third, third], [1 / 3, 1 / 3, 1 / 3]),
            (.logits, [0, log(3)], [0.25, 0.75]),
            // Exponentials of these are infinite.
            (.logits, [1001.0986, 1000], [0.75, 0.25]),
            (.logits, [-1000, -1000], [0.5, 0.5]),
            // One number is a class against all else.
            (.probabilities, [0.25], [0.25, 0.75]),
            (.logProbabilities, [log(0.25)], [0.25, 0.75]),
            (.logits, [log(3)], [0.75, 0.25]),
            (.logits, [1000], [1, 0]),
        ]
        for (meaning, given, expected) in cases {
            let found = try ASRRows(width: given.count, values: given).probabilities(from: meaning)
            XCTAssertEqual(found.width, expected.count)
            XCTAssertLessThan(largestError(found.values, expected), 1e-4, "\(meaning) \(given)")
        }
        let even = ASRRows(width: 2, values: [-0.1, -0.1])
        XCTAssertThrowsError(try even.probabilities(from: .logProbabilities))
        XCTAssertThrowsError(try even.probabilities(from: .state))
    }

    func testTheFirstOfEqualClassesIsTaken() throws {
        let manifest = try Artifact().spelling([" ", "a", "b"])
        var decoder = try ASRDecoder(.greedy, manifest)
        XCTAssertEqual(try decoder.feed(ASRRows(width: 4, values: [0.1, 0.4, 0.4, 0.1])), "a")
    }

    /// Twenty minutes in pieces of one step: the work of a step does not grow with the text.
    func testALongRecordingIsDecodedInLinearTime() throws {
        let manifest = try Artifact().spelling([" ", "a", "b"])
        let classes = 4
        let rows = (0..<6).map { step in
            var values = [Float](repeating: 0, count: classes)
            values[step % 2 == 0 ? classes - 1 : step % (classes - 1)] = 1
            return ASRRows(width: classes, values: values)
        }
        var decoder = try ASRDecoder(.greedy, manifest)
        let start = Date()
        for step in 0..<60_000 { _ = try decoder.feed(rows[step % rows.count]) }
        XCTAssertEqual(decoder.text.unicodeScalars.count, 30_000)
        XCTAssertLessThan(Date().timeIntervalSince(start), 10)
    }

    func testAnotherNumberOfClassesIsRefused() throws {
        let manifest = try Artifact().spelling([" ", "a", "b"])
        var decoder = try ASRDecoder(.greedy, manifest)
        let classes = 3
        XCTAssertThrowsError(
            try decoder.feed(ASRRows(width: classes, values: [Float](repeating: 0, count: classes)))
        )
    }
}

func expect(
    _ found: ASRTranscription, _ recording: Recording, times: Double, confidence: Double,
    line: UInt = #line
) throws {
    XCTAssertEqual(found.text, recording.text, line: line)
    XCTAssertEqual(found.words.map(\.text), recording.words.map(\.text), line: line)
    for (word, expected) in zip(found.words, recording.words) {
        XCTAssertEqual(word.start, expected.start, accuracy: times, line: line)
        XCTAssertEqual(word.end, expected.end, accuracy: times, line: line)
        XCTAssertEqual(word.confidence, expected.confidence, accuracy: confidence, line: line)
    }
}
