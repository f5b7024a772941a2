import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore

/// Recordings, rates, and the ends of utterances.
final class SoundTests: XCTestCase {
    /// A WAV file, part by part.
    private struct Wave {
        var name = "RIFF"
        var tag = 1
        var bits = 16
        var channels = 1
        var rate = 16_000
        var extended = false
        /// Chunks before the samples.
        var more: [UInt8] = []
        /// The length in the header; nil: the true one.
        var size: Int?
        var samples: [UInt8] = []

        var bytes: [UInt8] {
            let big = name == "RIFX"
            func number(_ value: Int, _ width: Int) -> [UInt8] {
                let bytes = (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
                return big ? bytes.reversed() : bytes
            }
            let block = (bits + 7) / 8 * channels
            var format = number(extended ? 0xFFFE : tag, 2) + number(channels, 2) + number(rate, 4)
            format += number(rate * block, 4) + number(block, 2) + number((bits + 7) / 8 * 8, 2)
            if extended {
                format += number(22, 2) + number(bits, 2) + number(0, 4) + number(tag, 2)
                format += [0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113]
            }
            let chunks = Array("WAVEfmt ".utf8) + number(format.count, 4) + format + more
                + Array("data".utf8) + number(size ?? samples.count, 4) + samples
            return Array(name.utf8) + number(chunks.count, 4) + chunks
        }

        func open() throws -> ASRWaveFile { try ASRWaveFile(Data(bytes)) }
    }

    private func fourBytes(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    func testEveryFormatOfSamples() throws {
        let half: [UInt8] = fourBytes(Float(0.5).bitPattern), quarter = fourBytes(Float(-0.25).bitPattern)
        let double = fourBytes(0) + fourBytes(0x3FE0_0000) + fourBytes(0) + fourBytes(0xBFD0_0000)
        let cases: [Wave] = [
            Wave(bits: 8, samples: [192, 96]),
            Wave(samples: [0, 0x40, 0, 0xE0]),
            Wave(extended: true, samples: [0, 0x40, 0, 0xE0]),
            Wave(bits: 24, samples: [0, 0, 0x40, 0, 0, 0xE0]),
            Wave(bits: 20, extended: true, samples: [0, 0, 0x40, 0, 0, 0xE0]),
            Wave(bits: 32, samples: [0, 0, 0, 0x40, 0, 0, 0, 0xE0]),
            Wave(tag: 3, bits: 32, samples: half + quarter),
            Wave(tag: 3, bits: 32, extended: true, samples: half + quarter),
            Wave(tag: 3, bits: 64, samples: double),
            Wave(name: "RIFX", samples: [0x40, 0, 0xE0, 0]),
            Wave(name: "RIFX", bits: 24, extended: true, samples: [0x40, 0, 0, 0xE0, 0, 0]),
            Wave(more: Array("LIST".utf8) + [3, 0, 0, 0, 1, 2, 3, 0], samples: [0, 0x40, 0, 0xE0]),
            // Channels of 0.75 and 0.25, then -0.5 and 0.
            Wave(channels: 2, samples: [0, 0x60, 0, 0x20, 0, 0xC0, 0, 0]),
        ]
        for wave in cases {
            let file = try wave.open()
            XCTAssertEqual(try file.samples(), [0.5, -0.25], "\(wave)")
            XCTAssertEqual(try file.samples(1..<9), [-0.25])
            XCTAssertEqual([file.sampleRate, file.channels, file.count], [16_000, wave.channels, 2])
            XCTAssertFalse(file.endsEarly)
        }
    }

    func testUnfinishedHeadersAreReadToTheEnd() throws {
        let samples: [UInt8] = [0, 0x40, 0, 0xE0, 0, 0x20]
        for size in [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF] {
            let file = try Wave(size: size, samples: samples).open()
            XCTAssertEqual(try file.samples(), [0.5, -0.25, 0.25])
            XCTAssertFalse(file.endsEarly)
        }
        XCTAssertTrue(try Wave(size: 100, samples: samples).open().endsEarly)
        XCTAssertEqual(try Wave(size: 5, samples: samples).open().count, 2)
        let long = Array("ds64".utf8) + [28, 0, 0, 0] + [UInt8](repeating: 0, count: 8) + [4]
            + [UInt8](repeating: 0, count: 19)
        let large = Wave(name: "RF64", more: long, size: 0xFFFF_FFFF, samples: samples)
        XCTAssertEqual(try large.open().samples(), [0.5, -0.25])
    }

    func testWhatNoRecordingIsIsRefused() throws {
        let float = { (value: Float) in Wave(tag: 3, bits: 32, samples: self.fourBytes(value.bitPattern)) }
        for wave in [float(.nan), float(.infinity), float(3000)] {
            let file = try wave.open()
            XCTAssertThrowsError(try file.samples()) { XCTAssertTrue($0 is ASRError) }
        }
        let bad = [
            Wave(tag: 7, bits: 8, samples: [1]), Wave(tag: 3, samples: [0, 0]), Wave(samples: []),
            Wave(channels: 0, samples: [0, 0]), Wave(channels: 65, samples: [0, 0]),
            Wave(rate: 999, samples: [0, 0]), Wave(rate: 800_000, samples: [0, 0]),
            Wave(channels: 2, samples: [0, 0]),
        ]
        for wave in bad { XCTAssertThrowsError(try wave.open(), "\(wave)") }
    }

    /// A header that is cut or changed at any byte is an error or a recording, and never a trap.
    func testDamagedHeaders() throws {
        var (errors, recordings) = (0, 0)
        func read(_ bytes: [UInt8]) {
            do {
                _ = try ASRWaveFile(Data(bytes)).samples()
                recordings += 1
            } catch {
                XCTAssertTrue(error is ASRError, "\(error)")
                errors += 1
            }
        }
        for extended in [false, true] {
            let bytes = Wave(channels: 2, extended: extended, samples: [1, 2, 3, 4, 5, 6, 7, 8]).bytes
            for end in bytes.indices { read(Array(bytes[..<end])) }
            for index in bytes.indices {
                for value: UInt8 in [0, 1, 0x7F, 0x80, 0xFF] {
                    var changed = bytes
                    changed[index] = value
                    read(changed)
                }
            }
        }
        XCTAssertGreaterThan(errors, 100)
        XCTAssertGreaterThan(recordings, 100)
    }

    private func tone(_ hertz: Double, _ rate: Int, _ count: Int) -> [Float] {
        (0..<count).map { Float(0.9 * sin(2 * Double.pi * hertz * Double($0) / Double(rate))) }
    }

    /// Tones stay as they are, and those that the lower rate has no room for disappear.
    func testTonesAtAnotherRate() throws {
        for (from, to) in [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (16_001, 16_000)] {
            let count = from / 10
            let hertz = 0.9 * Double(min(from, to)) / 2
            let found = try ASRResampler.resample(tone(hertz, from, count), from: from, to: to)
            let made = (count * to + from / 2) / from
            XCTAssertEqual(found.count, made)
            // Zeros around the recording change its ends.
            let inside = made / 3..<2 * made / 3
            let expected = tone(hertz, to, made)
            XCTAssertLessThan(largestError(Array(found[inside]), Array(expected[inside])), 2e-5)
            guard from > 2 * to else { continue }
            let above = try ASRResampler.resample(tone(8_100, from, count), from: from, to: to)
            XCTAssertLessThan(above[inside].map(abs).max() ?? 1, 1e-5, "100 dB")
        }
    }

    func testPiecesOfAnySizeAreResampledAlike() throws {
        let samples = tone(700, 44_100, 3_000)
        let whole = try ASRResampler.resample(samples, from: 44_100, to: 16_000)
        for piece in [1, 7, 441, 4_096] {
            var resampler = try ASRResampler(from: 44_100, to: 16_000)
            var found: [Float] = []
            for start in Swift.stride(from: 0, to: samples.count, by: piece) {
                found += try resampler.push(Array(samples[start..<min(start + piece, samples.count)]))
            }
            found += try resampler.finish()
            XCTAssertEqual(found, whole)
            XCTAssertThrowsError(try resampler.push([0]))
        }
        XCTAssertEqual(try ASRResampler.resample([1, 2], from: 9_000, to: 9_000), [1, 2])
        XCTAssertThrowsError(try ASRResampler(from: 0, to: 16_000))
    }

    /// A constant stays constant, also where coefficients are interpolated.
    func testAConstantStaysConstant() throws {
        let found = try ASRResampler.resample([Float](repeating: 0.5, count: 2_000), from: 15_999, to: 16_000)
        XCTAssertLessThan(found[500..<1_500].map { abs($0 - 0.5) }.max() ?? 1, 1e-6)
    }

    func testTheRateOfAnInputMayChange() throws {
        var converter = try ASRSoundConverter(to: 16_000)
        let low = tone(440, 24_000, 2_400), high = tone(440, 48_000, 4_800)
        var found = try converter.push([low, low], rate: 24_000)
        found += try converter.push([high, high.map { -$0 }], rate: 48_000)
        found += try converter.push([high], rate: 48_000)
        found += try converter.finish()
        XCTAssertEqual(found.count, 4_800)
        XCTAssertEqual(found[500..<1_000].max() ?? 0, 0.9, accuracy: 0.05)
        // Opposite channels cancel.
        XCTAssertLessThan(found[2_000..<2_900].map(abs).max() ?? 1, 1e-5)
        XCTAssertEqual(found[3_700..<4_300].max() ?? 0, 0.9, accuracy: 0.05)
        XCTAssertThrowsError(try converter.push([[1], []], rate: 16_000))
        XCTAssertEqual(try converter.push([], rate: 16_000), [])
    }

    func testAMicrophoneResumesOrEndsWithItsWords() {
        var state = CaptureState()
        XCTAssertEqual(state.react(to: .inputChanged), [])
        XCTAssertEqual(state.react(to: .begin), [.activate, .start])
        XCTAssertEqual(state.react(to: .begin), [])
        XCTAssertEqual(state.react(to: .inputChanged), [.stop, .start])
        XCTAssertEqual(state.react(to: .interrupted), [.stop])
        XCTAssertEqual(state.react(to: .inputChanged), [])
        XCTAssertEqual(state.react(to: .interruptionEnded(resumes: true)), [.activate, .start])
        XCTAssertEqual(state.react(to: .servicesReset), [.renew, .activate, .start])
        var other = state
        XCTAssertEqual(state.react(to: .end), [.stop, .deactivate])
        XCTAssertEqual(state.react(to: .servicesReset), [])
        XCTAssertEqual(other.react(to: .interrupted), [.stop])
        XCTAssertEqual(other.react(to: .interruptionEnded(resumes: false)), [.finish, .deactivate])
        XCTAssertEqual(other.react(to: .interruptionEnded(resumes: true)), [])
        var early = CaptureState()
        XCTAssertEqual(early.react(to: .end), [])
        XCTAssertEqual(early.react(to: .begin), [])
    }
}
