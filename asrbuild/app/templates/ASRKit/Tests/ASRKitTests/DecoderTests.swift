import XCTest

@testable import ASRKit

final class DecoderTests: XCTestCase {
    func testWordsAreThoseOfTheKit() throws {
        let artifact = try Artifact()
        for recording in artifact.book.recordings {
            var decoder = try GreedyDecoder(artifact.manifest)
            let rows = try artifact.rows(recording, "probabilities")
            for row in 0..<rows.count { _ = try decoder.feed(rows[row..<row + 1]) }
            try expect(decoder.transcription, recording, times: 1e-9, confidence: 1e-6)
        }
    }

    func testRepeatsMergeUnlessABlankPartsThem() throws {
        let manifest = try Artifact().manifest
        let blank = manifest.decoder.blankIndex
        var decoder = try GreedyDecoder(manifest)
        var rows = Rows(width: blank + 1)
        for label in [blank, 1, 1, blank, 1, 2, 2] {
            var row = [Float](repeating: 0, count: blank + 1)
            row[label] = 1
            rows.append(row)
        }
        let text = try decoder.feed(rows)
        let labels = manifest.decoder.alphabet
        if !manifest.decoder.utf8 { XCTAssertEqual(text, labels[1] + labels[1] + labels[2]) }
    }

    func testAnotherNumberOfClassesIsRefused() throws {
        let manifest = try Artifact().manifest
        var decoder = try GreedyDecoder(manifest)
        let classes = manifest.decoder.blankIndex
        XCTAssertThrowsError(
            try decoder.feed(Rows(width: classes, values: [Float](repeating: 0, count: classes)))
        )
    }
}

func expect(
    _ found: Transcription, _ recording: Recording, times: Double, confidence: Double,
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
