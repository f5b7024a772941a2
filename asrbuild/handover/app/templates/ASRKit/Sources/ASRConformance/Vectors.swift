import ASRCore
import Foundation

/// The conformance vectors of an artifact: for some recordings the result of every step from samples
/// to words, as asrbuild's executor computes them, and how far a runtime may be off.
///
/// Kept as a folder: `conformance` in an artifact, `NAME.conformance` in an app.
public struct ASRVectors: Sendable {
    /// The folder.
    public let folder: URL
    /// The recordings, in the order in which they are run.
    public let recordings: [Recording]
    /// The steps that are compared, from samples to words.
    public let steps: [Step]
    private let cache = Cache()

    /// One step, with its tolerances.
    public struct Step: Decodable, Sendable {
        /// Its name; a state's is that of the input or output.
        public let name: String
        /// Its file in the folder of a recording.
        public let file: String
        /// `samples`, `frames`, `calls`, `state`, `probabilities`, `text` or `words`.
        public let kind: String
        /// Of a state: `in` where a call takes it, `out` where it gives it.
        public let direction: String?
        /// Measure -> limit.
        public let limits: [String: Double]?
    }

    /// One recording, with its calls and words.
    public struct Recording: Decodable, Sendable {
        /// Its name, which is that of its folder.
        public let name: String
        /// Its WAV file, relative to the folder of the vectors.
        public let audio: String
        /// Int16 samples.
        public let samples: Int
        /// SHA-256 of the samples as little-endian bytes, in hexadecimal digits.
        public let samplesSHA256: String
        /// Steps, which are frames.
        public let steps: Int
        /// The calls of the package.
        public let calls: [RecordedCall]
        /// The greedy transcript.
        public let text: String
        /// Its words.
        public let words: [ASRWord]

        enum CodingKeys: String, CodingKey {
            case name, audio, samples, steps, calls, text, words
            case samplesSHA256 = "samples_sha256"
        }
    }

    /// One call of a recording.
    public struct RecordedCall: Decodable, Sendable {
        /// The call.
        public let call: ASRCall
        /// The rows of the recording that it gives.
        public let rows: Range<Int>
        /// Whether the state after it is to be compared.
        public let stateValid: Bool

        enum CodingKeys: String, CodingKey {
            case first, steps, size, rows
            case firstRow = "first_row"
            case stateValid = "state_valid"
        }

        /// Reads a call of `steps.json`.
        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            call = ASRCall(
                first: try fields.decode(Int.self, forKey: .first),
                steps: try fields.decode(Int.self, forKey: .steps),
                size: try fields.decode(Int.self, forKey: .size)
            )
            // Of manifests 1.x, a row for each step.
            let row = try fields.decodeIfPresent(Int.self, forKey: .firstRow) ?? call.first
            let count = try fields.decodeIfPresent(Int.self, forKey: .rows) ?? call.steps
            guard row >= 0, count >= 0 else {
                throw ASRError.contradiction("a call with \(count) rows from row \(row) on")
            }
            rows = row..<row + count
            stateValid = try fields.decode(Bool.self, forKey: .stateValid)
        }
    }

    private struct Book: Decodable {
        let steps: [Step]
        let recordings: [Recording]
    }

    /// Arrays read so far. Unchecked: behind a lock.
    private final class Cache: @unchecked Sendable {
        private let lock = NSLock()
        private var arrays: [String: Npy] = [:]

        func array(_ path: String, _ read: () throws -> Npy) rethrows -> Npy {
            try lock.withLock {
                if let known = arrays[path] { return known }
                let array = try read()
                arrays[path] = array
                return array
            }
        }
    }

    /// Reads the vectors in a folder.
    ///
    /// - Throws: `DecodingError`, or an error of the file system.
    public init(contentsOf folder: URL) throws {
        let steps = try Data(contentsOf: folder.appendingPathComponent("steps.json"))
        let book = try JSONDecoder().decode(Book.self, from: steps)
        self.folder = folder
        self.steps = book.steps
        recordings = book.recordings
    }

    /// The array of one step of a recording.
    package func array(_ recording: Recording, _ step: String) throws -> Npy {
        guard let file = steps.first(where: { $0.name == step })?.file else {
            throw ASRError.contradiction("the conformance vectors have no step \(step)")
        }
        let path = "\(recording.name)/\(file)"
        return try cache.array(path) { try Npy(contentsOf: folder.appendingPathComponent(path)) }
    }

    /// The array of one step, a row for each of its first index.
    package func rows(_ recording: Recording, _ step: String) throws -> ASRRows {
        let array = try array(recording, step)
        return ASRRows(width: array.shape.dropFirst().reduce(1, *), values: array.values)
    }

    /// The samples of a recording.
    package func samples(_ recording: Recording) throws -> [Int16] {
        // Readers refuse a WAV file without samples.
        guard recording.samples > 0 else { return [] }
        return try wav(contentsOf: folder.appendingPathComponent(recording.audio))
    }

    /// The step whose array the package takes; nil where it takes samples.
    package var fedStep: String? {
        steps.map(\.name).first { $0 == "windows" || $0 == "features" }
    }

    /// The package's input for a recording, a row for each step.
    package func fed(_ recording: Recording, _ manifest: ASRManifest) throws -> ASRRows {
        if let step = fedStep { return try rows(recording, step) }
        let scale = Float(manifest.audio.sampleScale)
        return ASRRows(width: 1, values: try samples(recording).map { Float($0) * scale })
    }

    /// The limit of one measure of a step.
    package func limit(_ step: String, _ measure: String) throws -> Float {
        guard let found = steps.first(where: { $0.name == step })?.limits?[measure] else {
            throw ASRError.contradiction("the conformance vectors have no \(measure) of \(step)")
        }
        return Float(found)
    }
}

/// An array of float32 in a `.npy` file, version 1, little-endian, row-major.
package struct Npy: Sendable {
    package let shape: [Int]
    package let values: [Float]

    package init(contentsOf url: URL) throws {
        let data = [UInt8](try Data(contentsOf: url))
        guard data.count >= 10, Array(data[0..<8]) == [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]
        else { throw ASRError.unreadable("\(url.path) is not a .npy file") }
        let start = 10 + Int(data[8]) + 256 * Int(data[9])
        guard start <= data.count else { throw ASRError.unreadable("\(url.path) is cut short") }
        let header = String(decoding: data[10..<start], as: UTF8.self)
        guard header.contains("'descr': '<f4'"), header.contains("'fortran_order': False"),
            let open = header.firstIndex(of: "("), let close = header.firstIndex(of: ")")
        else { throw ASRError.unreadable("\(url.path): \(header)") }
        shape = header[header.index(after: open)..<close].split(separator: ",").compactMap {
            Int($0.filter { $0 != " " })
        }
        values = data.withUnsafeBytes { bytes in
            Swift.stride(from: start, to: bytes.count - 3, by: 4).map { index in
                let pattern = bytes.loadUnaligned(fromByteOffset: index, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: pattern))
            }
        }
        guard values.count == shape.reduce(1, *) else {
            throw ASRError.unreadable("\(url.path) has \(values.count) values for \(shape)")
        }
    }

    /// The bytes of such a file.
    package static func data(_ values: [Float], shape: [Int]) -> Data {
        let sizes = shape.map { "\($0)," }.joined(separator: " ")
        var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(sizes)), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        var data = Data([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0])
        data.append(contentsOf: [UInt8(header.utf8.count % 256), UInt8(header.utf8.count / 256)])
        data.append(contentsOf: Array(header.utf8))
        for value in values {
            for byte in 0..<4 { data.append(UInt8(truncatingIfNeeded: value.bitPattern >> (8 * byte))) }
        }
        return data
    }
}

/// The samples of an int16 mono WAV file.
package func wav(contentsOf url: URL) throws -> [Int16] {
    try ASRWaveFile(contentsOf: url).samples().map(pcm)
}

/// The largest difference of two arrays; infinite where one has more values.
package func largestError(_ one: [Float], _ other: [Float]) -> Float {
    one.count == other.count ? zip(one, other).map { abs($0 - $1) }.max() ?? 0 : .infinity
}
