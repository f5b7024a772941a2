import Foundation
import XCTest

@testable import ASRKit

/// The artifact that this package lies in: its manifest and its conformance kit.
struct Artifact {
    let folder: URL
    let manifest: ASRManifest
    let book: Book
    private let read = Read()

    /// Arrays read so far.
    private final class Read {
        var arrays: [String: Npy] = [:]
    }

    /// - Parameter folder: nil: the one that `ASRKIT_ARTIFACT` names, or the one above this package.
    init(folder given: URL? = nil) throws {
        if let given = given {
            folder = given
        } else if let path = ProcessInfo.processInfo.environment["ASRKIT_ARTIFACT"] {
            folder = URL(fileURLWithPath: path)
        } else {
            folder = (0..<4).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
                url.deletingLastPathComponent()
            }
        }
        manifest = try ASRManifest.read(contentsOf: folder.appendingPathComponent("manifest.json"))
        let steps = folder.appendingPathComponent("conformance/steps.json")
        book = try JSONDecoder().decode(Book.self, from: try Data(contentsOf: steps))
    }

    func array(_ recording: Recording, _ name: String) throws -> Npy {
        let file = try XCTUnwrap(book.steps.first { $0.name == name }?.file, "no step \(name)")
        let path = "conformance/\(recording.name)/\(file)"
        if let known = read.arrays[path] { return known }
        let array = try Npy(contentsOf: folder.appendingPathComponent(path))
        read.arrays[path] = array
        return array
    }

    func rows(_ recording: Recording, _ name: String) throws -> Rows {
        let array = try array(recording, name)
        return Rows(width: array.shape.dropFirst().reduce(1, *), values: array.values)
    }

    func samples(_ recording: Recording) throws -> [Int16] {
        try wav(Data(contentsOf: folder.appendingPathComponent("conformance/\(recording.audio)")))
    }

    func limit(_ step: String, _ measure: String) throws -> Float {
        let found = book.steps.first { $0.name == step }?.limits?[measure]
        return Float(try XCTUnwrap(found, "steps.json has no \(measure) of \(step)"))
    }
}

/// `steps.json`, as far as these tests need it.
struct Book: Decodable {
    let steps: [Step]
    let recordings: [Recording]
}

struct Step: Decodable {
    let name: String
    let file: String
    let limits: [String: Double]?
}

struct Recording: Decodable {
    let name: String
    let audio: String
    let samples: Int
    let samplesSHA256: String
    let steps: Int
    let calls: [RecordedCall]
    let text: String
    let words: [Word]

    enum CodingKeys: String, CodingKey {
        case name, audio, samples, steps, calls, text, words
        case samplesSHA256 = "samples_sha256"
    }
}

struct RecordedCall: Decodable {
    let first: Int
    let steps: Int
    let size: Int
    let stateValid: Bool

    enum CodingKeys: String, CodingKey {
        case first, steps, size
        case stateValid = "state_valid"
    }

    var call: Call { Call(first: first, steps: steps, size: size) }
}

struct Unreadable: Error {
    let why: String
}

/// An array of float32 in a `.npy` file, version 1, little-endian, row-major.
struct Npy {
    let shape: [Int]
    let values: [Float]

    init(contentsOf url: URL) throws {
        let data = [UInt8](try Data(contentsOf: url))
        guard data.count >= 10, Array(data[0..<8]) == [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]
        else { throw Unreadable(why: "\(url.path) is no .npy file") }
        let start = 10 + Int(data[8]) + 256 * Int(data[9])
        let header = String(decoding: data[10..<start], as: UTF8.self)
        guard header.contains("'descr': '<f4'"), header.contains("'fortran_order': False"),
            let open = header.firstIndex(of: "("), let close = header.firstIndex(of: ")")
        else { throw Unreadable(why: "\(url.path): \(header)") }
        shape = header[header.index(after: open)..<close].split(separator: ",").compactMap {
            Int($0.trimmingCharacters(in: .whitespaces))
        }
        values = data.withUnsafeBytes { bytes in
            Swift.stride(from: start, to: bytes.count - 3, by: 4).map { index in
                let pattern = bytes.loadUnaligned(fromByteOffset: index, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: pattern))
            }
        }
        guard values.count == shape.reduce(1, *) else {
            throw Unreadable(why: "\(url.path) has \(values.count) values for \(shape)")
        }
    }

    static func write(_ values: [Float], shape: [Int], to url: URL) throws {
        let sizes = shape.map { "\($0)," }.joined(separator: " ")
        var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(sizes)), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        var data = Data([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0])
        data.append(contentsOf: [UInt8(header.utf8.count % 256), UInt8(header.utf8.count / 256)])
        data.append(contentsOf: header.utf8)
        for value in values {
            for byte in 0..<4 { data.append(UInt8(truncatingIfNeeded: value.bitPattern >> (8 * byte))) }
        }
        try data.write(to: url)
    }
}

/// The samples of an int16 mono WAV file.
func wav(_ data: Data) throws -> [Int16] {
    let bytes = [UInt8](data)
    func number(_ at: Int, _ count: Int) -> Int {
        (0..<count).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
    }
    var at = 12
    while at + 8 <= bytes.count {
        let size = number(at + 4, 4)
        if Array(bytes[at..<at + 4]) == Array("data".utf8) {
            return Swift.stride(from: at + 8, to: at + 8 + size, by: 2).map {
                Int16(truncatingIfNeeded: number($0, 2))
            }
        }
        at += 8 + size + size % 2
    }
    throw Unreadable(why: "no WAV file")
}

func largestError(_ one: [Float], _ other: [Float]) -> Float {
    one.count == other.count ? zip(one, other).map { abs($0 - $1) }.max() ?? 0 : .infinity
}
