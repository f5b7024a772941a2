import Foundation
import XCTest

@testable import ASRCore

/// Tests of the beginning and end of speech, and of captions.
final class SpeechTests: XCTestCase {
    private let rate = 8_000

    /// Noise of an amplitude, the same each time.
    private func noise(_ seconds: Double, _ amplitude: Float) -> [Float] {
        var state: UInt32 = 1
        return (0..<Int(seconds * Double(rate))).map { _ in
            state = state &* 1_664_525 &+ 1_013_904_223
            return amplitude * (Float(state) / Float(UInt32.max) * 2 - 1)
        }
    }

    private func voice(_ seconds: Double) -> [Float] {
        (0..<Int(seconds * Double(rate))).map { Float(0.2 * sin(Double($0) * 0.4)) }
    }

    private func events(_ samples: [Float], piece: Int) throws -> [ASRSpeechDetector.Event] {
        var detector = try ASRSpeechDetector(sampleRate: rate)
        var events: [ASRSpeechDetector.Event] = []
        for start in Swift.stride(from: 0, to: samples.count, by: piece) {
            events += detector.push(Array(samples[start..<min(start + piece, samples.count)]))
        }
        if let last = detector.finish() { events.append(last) }
        XCTAssertNil(detector.finish())
        XCTAssertFalse(detector.speaking)
        return events
    }

    func testSpeechIsFoundInNoise() throws {
        for amplitude: Float in [0, 0.003, 0.02] {
            let samples = noise(1, amplitude) + voice(0.5) + noise(0.4, amplitude) + voice(0.5)
                + noise(1.5, amplitude) + voice(0.5)
            let found = try events(samples, piece: samples.count)
            // A pause of 0.4 s does not end an utterance.
            XCTAssertEqual(found.count, 4)
            for (event, expected) in zip(found, [1, 2.4, 3.9, 4.4]) {
                switch event {
                case .began(let at), .ended(let at): XCTAssertEqual(at, expected, accuracy: 0.03)
                }
            }
            guard case .began = found.first, case .ended = found.last else {
                return XCTFail("\(found)")
            }
            for piece in [1, 160, 1_001] { XCTAssertEqual(try events(samples, piece: piece), found) }
        }
    }

    func testNoiseAndClicksAreNotSpeech() throws {
        XCTAssertEqual(try events(noise(3, 0.05), piece: 400), [])
        XCTAssertEqual(try events(noise(3, 0), piece: 400), [])
        // A constant part is not sound.
        XCTAssertEqual(try events(noise(3, 0.001).map { $0 + 0.3 }, piece: 400).count, 0)
        XCTAssertEqual(try events(noise(1, 0.001) + voice(0.03) + noise(1, 0.001), piece: 400), [])
        XCTAssertThrowsError(try ASRSpeechDetector(sampleRate: 0))
    }

    /// Noise that becomes louder is followed: it is speech for a few seconds only.
    func testTheLevelOfTheNoiseIsFollowed() throws {
        let samples = noise(1, 0.003) + noise(9, 0.03)
        guard case .ended(let end)? = try events(samples, piece: 800).last else {
            return XCTFail("louder noise is not noticed")
        }
        XCTAssertLessThan(end, 8)
    }

    func testPiecesEndWithTheUtterance() async throws {
        let sound = noise(0.5, 0) + voice(0.5) + noise(3, 0)
        let pieces = Swift.stride(from: 0, to: sound.count, by: 400).map {
            Array(sound[$0..<min($0 + 400, sound.count)])
        }
        let stream = AsyncThrowingStream<[Float], any Error> { continuation in
            for piece in pieces { continuation.yield(piece) }
            continuation.finish()
        }
        var count = 0
        for try await piece in stream.firstUtterance(try ASRSpeechDetector(sampleRate: rate)) {
            count += piece.count
        }
        // 0.5 s before speech, 0.5 s of it, 0.8 s of silence.
        XCTAssertEqual(Double(count) / Double(rate), 1.8, accuracy: 0.1)
    }

    private func word(_ text: String, _ start: Double, _ end: Double) -> ASRWord {
        ASRWord(text: text, start: start, end: end, confidence: 1)
    }

    func testCaptions() {
        let words = [
            word("a<b", 0.5, 0.9), word("&c", 1, 1.5), word("later", 3.2, 3.9994),
            word("hour", 3_661.0126, 3_661.5),
        ]
        let captions = ASRCaptions(words)
        XCTAssertEqual(
            captions.srt,
            """
            1
            00:00:00,500 --> 00:00:01,500
            a<b &c

            2
            00:00:03,200 --> 00:00:03,999
            later

            3
            01:01:01,013 --> 01:01:01,500
            hour

            """
        )
        XCTAssertEqual(
            captions.vtt,
            """
            WEBVTT

            00:00:00.500 --> 00:00:01.500
            a&lt;b &amp;c

            00:00:03.200 --> 00:00:03.999
            later

            01:01:01.013 --> 01:01:01.500
            hour

            """
        )
        XCTAssertEqual(ASRCaptions([]).srt, "")
        XCTAssertEqual(ASRCaptions([]).vtt, "WEBVTT\n")
    }

    func testCuesAreShortAndDoNotOverlap() {
        let words = (0..<200).map { index -> ASRWord in
            let start = 0.31 * Double(index)
            return word(String(repeating: "x", count: 1 + index * 7 % 13), start, start + 0.4)
        }
        let cues = ASRCaptions(words + [word(String(repeating: "y", count: 60), 100, 101)]).cues
        XCTAssertEqual(
            cues.flatMap(\.lines).joined(separator: " ").split(separator: " ").map(String.init).dropLast(),
            words.map(\.text)[...]
        )
        for cue in cues.dropLast() {
            XCTAssertTrue(cue.lines.count <= 2 && cue.lines.allSatisfy { $0.count <= 42 }, "\(cue)")
            XCTAssertTrue(cue.start < cue.end && cue.end - cue.start <= 6.01, "\(cue)")
        }
        for (one, other) in zip(cues, cues.dropFirst()) { XCTAssertLessThanOrEqual(one.end, other.start) }
        XCTAssertTrue(cues.contains { $0.lines.count == 2 })
    }
}
