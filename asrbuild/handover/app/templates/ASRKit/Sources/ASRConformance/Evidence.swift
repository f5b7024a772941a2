import ASRCore
import Foundation

/// The evidence of one run of a model on one device: the document that `asrbuild evidence add` reads.
///
/// `asrbuild` takes nothing in it on trust: it computes statistics, outputs and words again.
struct Evidence: Encodable {
    struct Artifact: Encodable {
        let name, version, packageSha256, function: String
    }

    struct Runner: Encodable {
        let name, version, coreMl, clock: String
    }

    struct Hints: Encodable {
        let reshapeFrequency = Null<String>(nil)
        let specializationStrategy = Null<String>(nil)
    }

    struct Operation: Encodable {
        let `operator`, output: String
        let preferred: Null<String>
        let supported: [String]
        let weight: Null<Double>
    }

    struct Plan: Encodable {
        let units: String
        let answered: Bool
        let ops: [Operation]
        /// Null: this runner does not know the package's operations, and asrbuild compares them.
        let absent, added: Null<[String]>
        let error: Null<String>
    }

    struct Load: Encodable {
        let units: String
        let firstMs: Double
        let cache: String
        let againMs: [Double]
    }

    struct Timed: Encodable {
        let units: String
        let atS: Double
        let callsMs: [Double]
    }

    struct Statistics: Encodable {
        let units: String
        let passes: Int
        let meanMs, p50Ms, p95Ms, maxMs: Double

        /// Milliseconds per second of audio, of the passes with these units.
        init(_ units: String, _ passes: [Timed], audio: Double) {
            let values = passes.filter { $0.units == units }
                .map { $0.callsMs.reduce(0, +) / audio }.sorted()
            func quantile(_ share: Double) -> Double {
                values[max(1, Int((share * Double(values.count)).rounded(.up))) - 1]
            }
            self.units = units
            self.passes = values.count
            meanMs = values.reduce(0, +) / Double(values.count)
            (p50Ms, p95Ms, maxMs) = (quantile(0.5), quantile(0.95), values.last ?? 0)
        }
    }

    struct Memory: Encodable {
        let counts: String
        let countsNeuralEngine: Null<Bool>
        let beforeBytes, afterLoadBytes, peakBytes: Int
    }

    struct Output: Encodable {
        let units, recording: String
        let samples: Int
        let samplesSha256: String
        let steps, classes: Int
        let probabilities: String
    }

    struct Conformance: Encodable {
        let units, recording, step, measure: String
        let value, limit: Double
        let passed: Bool
    }

    let format = "asrbuild-evidence/1"
    let measured: String
    let artifact: Artifact
    let runner: Runner
    let device: ASRDevice
    let hints = Hints()
    let timedRecording: String
    let plans: [Plan]
    let loads: [Load]
    let passes: [Timed]
    let statistics: [Statistics]
    let memory: Memory
    let outputs: [Output]
    let conformance: [Conformance]
    let errors: [String]

    func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self)
    }
}

/// A value that is written as null where there is none.
struct Null<Value: Encodable>: Encodable {
    let value: Value?

    init(_ value: Value?) { self.value = value }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let value = value { try container.encode(value) } else { try container.encodeNil() }
    }
}

/// Signs what a device measured. `ASRDeviceKey` is one, where there is CryptoKit.
public protocol ASRSigner: Sendable {
    /// SHA-256 of the 32 bytes of the public Ed25519 key, in hexadecimal digits.
    var keyID: String { get }
    /// The Ed25519 signature of some bytes, 64 bytes.
    func signature(of bytes: Data) throws -> Data
}

extension ASRSigner {
    /// A document in a DSSE envelope (https://github.com/secure-systems-lab/dsse).
    func seal(_ payload: Data) throws -> Data {
        let type = "application/vnd.asrbuild.evidence+json"
        var signed = Data("DSSEv1 \(type.utf8.count) \(type) \(payload.count) ".utf8)
        signed.append(contentsOf: Array(payload))
        let envelope = Envelope(
            payload: payload.base64EncodedString(), payloadType: type,
            signatures: [
                Envelope.Signature(
                    keyid: keyID, sig: try signature(of: signed).base64EncodedString()
                ),
            ]
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(envelope)
    }
}

private struct Envelope: Encodable {
    struct Signature: Encodable {
        let keyid, sig: String
    }

    let payload, payloadType: String
    let signatures: [Signature]
}

#if canImport(CryptoKit)
import CryptoKit

/// A key of this device, made at its first use and kept in a file that leaves no backup.
public struct ASRDeviceKey: ASRSigner {
    private let key: Curve25519.Signing.PrivateKey

    /// - Parameter folder: nil: `ASRKit` in Application Support.
    public init(folder: URL? = nil) throws {
        let files = FileManager.default
        let place = try folder ?? files.url(
            for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
        ).appendingPathComponent("ASRKit", isDirectory: true)
        var file = place.appendingPathComponent("device.key")
        if let kept = try? Data(contentsOf: file) {
            key = try Curve25519.Signing.PrivateKey(rawRepresentation: kept)
            return
        }
        key = Curve25519.Signing.PrivateKey()
        try files.createDirectory(at: place, withIntermediateDirectories: true)
        try key.rawRepresentation.write(to: file, options: [.atomic, .completeFileProtection])
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        try file.setResourceValues(values)
    }

    /// The id under which `asrbuild` knows the key.
    public var keyID: String { ASRCore.SHA256.hex(key.publicKey.rawRepresentation) }

    /// The public key as a file for `asrbuild key trust`.
    public var publicPEM: String {
        let prefix: [UInt8] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]
        let text = (Data(prefix) + key.publicKey.rawRepresentation).base64EncodedString()
        return "-----BEGIN PUBLIC KEY-----\n\(text)\n-----END PUBLIC KEY-----\n"
    }

    /// Signs bytes.
    public func signature(of bytes: Data) throws -> Data { try key.signature(for: bytes) }
}
#endif
