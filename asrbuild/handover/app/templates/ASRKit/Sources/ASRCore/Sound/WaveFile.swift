import Foundation

/// A WAV file: PCM of 8, 16, 24 or 32 bits, or floats of 32 or 64 bits, with any number of channels.
///
/// The format is that of Microsoft's RIFF specification, with `WAVE_FORMAT_EXTENSIBLE`, big-endian
/// RIFX, and the RF64 of EBU Tech 3306 for more than 4 GB. A file whose header was never finished, or
/// whose end is missing, is read to its end, as `asrbuild transcribe` does. Samples are read in
/// pieces, so a long recording need not be in memory.
public struct ASRWaveFile: Sendable {
    private enum Encoding: Sendable {
        case unsigned8, signed16, signed24, signed32, float32, float64
    }

    /// Samples a second.
    public let sampleRate: Int
    /// Channels, of which samples are the mean.
    public let channels: Int
    /// Samples of a channel.
    public let count: Int
    /// Whether the header promises more samples than the file has.
    public let endsEarly: Bool
    private let data: Data
    private let start: Int
    private let encoding: Encoding
    private let bigEndian: Bool

    /// Opens a file.
    ///
    /// - Throws: `ASRError.badAudio` for a file that is no such WAV; what Foundation throws for one
    ///   that cannot be read.
    public init(contentsOf url: URL) throws {
        try self.init(try Data(contentsOf: url, options: .mappedIfSafe))
    }

    /// Opens a file that is in memory already.
    ///
    /// - Throws: `ASRError.badAudio` for data that is no such WAV.
    public init(_ given: Data) throws {
        // A slice begins at any index.
        let data = given.startIndex == 0 ? given : Data(given)
        let reader = Reader(data: data)
        let name = reader.name(0)
        guard let name, ["RIFF", "RF64", "RIFX"].contains(name), reader.name(8) == "WAVE" else {
            throw ASRError.badAudio("no WAV file")
        }
        bigEndian = name == "RIFX"
        let chunks = try reader.chunks(bigEndian: bigEndian)
        channels = chunks.format.channels
        sampleRate = chunks.format.rate
        guard (1...64).contains(channels) else {
            throw ASRError.badAudio("the header says \(channels) channels")
        }
        guard (1_000...768_000).contains(sampleRate) else {
            throw ASRError.badAudio("the header says \(sampleRate) samples a second")
        }
        let width: Int
        switch (chunks.format.tag, chunks.format.bits) {
        case (1, 8): (encoding, width) = (.unsigned8, 1)
        case (1, 9...16): (encoding, width) = (.signed16, 2)
        case (1, 17...24): (encoding, width) = (.signed24, 3)
        case (1, 25...32): (encoding, width) = (.signed32, 4)
        case (3, 32): (encoding, width) = (.float32, 4)
        case (3, 64): (encoding, width) = (.float64, 8)
        default:
            throw ASRError.badAudio(
                "samples of format \(chunks.format.tag) with \(chunks.format.bits) bits"
            )
        }
        guard chunks.format.block == width * channels else {
            throw ASRError.badAudio(
                "the header says \(chunks.format.block) bytes for \(channels) samples of \(width)"
            )
        }
        count = chunks.bytes / chunks.format.block
        guard count > 0 else { throw ASRError.badAudio("no samples") }
        endsEarly = chunks.endsEarly
        start = chunks.start
        self.data = data
    }

    /// All samples, the mean of the channels, between -1 and 1.
    ///
    /// - Throws: as `samples(_:)`.
    public func samples() throws -> [Float] {
        try samples(0..<count)
    }

    /// Some samples, the mean of the channels, between -1 and 1. What is outside of the file is left
    /// out.
    ///
    /// - Throws: `ASRError.badAudio` for floats that are not finite or have the range of integers.
    public func samples(_ range: Range<Int>) throws -> [Float] {
        let range = range.clamped(to: 0..<count)
        let mixed = data.withUnsafeBytes { bytes in
            switch encoding {
            case .unsigned8: return mix(bytes, range, 1) { Float(Int(bytes[$0]) - 128) / 128 }
            case .signed16:
                return mix(bytes, range, 2) { Float(Int16(truncatingIfNeeded: raw(bytes, $0, 2))) / 32768 }
            case .signed24:
                return mix(bytes, range, 3) {
                    Float(Int32(truncatingIfNeeded: raw(bytes, $0, 3) << 8) >> 8) / 8_388_608
                }
            case .signed32:
                return mix(bytes, range, 4) {
                    Float(Int32(truncatingIfNeeded: raw(bytes, $0, 4))) / 2_147_483_648
                }
            case .float32:
                return mix(bytes, range, 4) {
                    Float(bitPattern: UInt32(truncatingIfNeeded: raw(bytes, $0, 4)))
                }
            case .float64:
                return mix(bytes, range, 8) { Float(Double(bitPattern: raw(bytes, $0, 8))) }
            }
        }
        guard mixed.allSatisfy(\.isFinite) else {
            throw ASRError.badAudio("samples that are not finite numbers")
        }
        // A float this far above full scale was never scaled to -1 .. 1.
        guard mixed.allSatisfy({ abs($0) <= 16 }) else {
            throw ASRError.badAudio("floats with the range of integers, not of -1 to 1")
        }
        return mixed
    }

    private func mix(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ width: Int,
        _ sample: (Int) -> Float
    ) -> [Float] {
        let share = Float(channels)
        return range.map { index in
            var at = start + index * channels * width
            var sum: Float = 0
            for _ in 0..<channels {
                sum += sample(at)
                at += width
            }
            return sum / share
        }
    }

    /// A number of so many bytes.
    private func raw(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ width: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<width {
            let byte = UInt64(bytes[at &+ index])
            value |= byte << UInt64(8 &* (bigEndian ? width &- 1 &- index : index))
        }
        return value
    }
}

/// The chunks of a RIFF file; every read is checked against the file's size.
private struct Reader {
    let data: Data

    struct Format {
        let tag: Int
        let channels: Int
        let rate: Int
        let block: Int
        let bits: Int
    }

    struct Chunks {
        let format: Format
        let start: Int
        let bytes: Int
        let endsEarly: Bool
    }

    /// A size that a writer puts down for "not known yet", or a larger one.
    private static let notKnown = 0x7FFF_F000

    func name(_ at: Int) -> String? {
        guard at >= 0, at + 4 <= data.count else { return nil }
        return String(decoding: data[at..<at + 4], as: UTF8.self)
    }

    func number(_ at: Int, _ width: Int, bigEndian: Bool) -> Int? {
        guard at >= 0, at + width <= data.count else { return nil }
        return (0..<width).reduce(0) { sum, index in
            sum | Int(data[at + index]) << (8 * (bigEndian ? width - 1 - index : index))
        }
    }

    func chunks(bigEndian: Bool) throws -> Chunks {
        var at = 12
        var format: Format?
        var long: Int?
        while let name = name(at), let size = number(at + 4, 4, bigEndian: bigEndian) {
            let body = at + 8
            if name == "fmt " { format = try read(body, size, bigEndian) }
            if name == "ds64", let low = number(body + 8, 4, bigEndian: false),
                let high = number(body + 12, 4, bigEndian: false), high < 1 << 30 {
                long = high << 32 | low
            }
            if name == "data" {
                guard let format else { throw ASRError.badAudio("samples before their format") }
                let there = data.count - body
                let declared = size == 0xFFFF_FFFF ? long ?? size : size
                // A stream that was broken off says 0 or as much as can be.
                let unfinished = size >= Self.notKnown && long == nil || size == 0
                return Chunks(
                    format: format, start: body,
                    bytes: unfinished ? there : min(declared, there),
                    endsEarly: !unfinished && declared > there
                )
            }
            at = body + size + size % 2
        }
        throw ASRError.badAudio(format == nil ? "no format of samples" : "no samples")
    }

    private func read(_ body: Int, _ size: Int, _ bigEndian: Bool) throws -> Format {
        func value(_ at: Int, _ width: Int) -> Int? {
            at + width <= size ? number(body + at, width, bigEndian: bigEndian) : nil
        }
        guard var tag = value(0, 2), let channels = value(2, 2), let rate = value(4, 4),
            let block = value(12, 2), let bits = value(14, 2)
        else { throw ASRError.badAudio("a format that is cut off") }
        if tag == 0xFFFE {
            // The rest of the GUID says that its first two bytes are a plain tag.
            let rest: [UInt8] = [0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113]
            guard let own = value(24, 2), size >= 40, body + 40 <= data.count,
                bigEndian || Array(data[body + 26..<body + 40]) == rest
            else { throw ASRError.badAudio("an extended format that is not known") }
            tag = own
        }
        return Format(tag: tag, channels: channels, rate: rate, block: block, bits: bits)
    }
}
