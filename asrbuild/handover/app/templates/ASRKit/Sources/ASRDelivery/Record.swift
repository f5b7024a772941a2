import ASRCore
import Foundation

/// The n-th signed value of a channel; `docs/bundle-format.md`, Channels, has its fields.
struct Record {
    static let maxBytes = 64 << 10
    private static let type = "application/vnd.asrbuild.channel+json"
    private static let keys: Set<String> = [
        "channel", "counter", "format", "header", "name", "previous", "time", "version", "why",
    ]

    let counter: Int
    let version: String
    /// Digest of the header or set that it points at.
    let header: String
    /// Digest of the record before.
    let previous: String?
    /// SHA-256 of the record itself.
    let digest: String
    /// The identity of the remote that it is for.
    let remote: String?
    /// Seconds since 1970.
    let expires: Double?
    /// The trusted keys that signed it.
    let signers: [ASRPublicKey]
    /// The refusal where no trusted key signed it: a newer record may vouch for it.
    let unsigned: ASRRefused?
    private let key: String?
    private let rotates: Bool
    private let envelope: Envelope

    /// A record of exactly this channel and counter.
    init(_ raw: Data, name: String, channel: String, counter: Int, trust: Trust) throws {
        envelope = try Envelope(
            try strict(raw, Self.maxBytes, .recordMalformed), type: Self.type, malformed: .recordMalformed
        )
        do { (signers, unsigned) = (try envelope.signers(trust), nil) } catch let refused as ASRRefused {
            guard refused.reason != .badSignature else { throw refused }
            (signers, unsigned) = ([], refused)
        }
        let json = try envelope.json(.recordMalformed, most: Self.maxBytes)
        guard let fields = json.object, Self.isWellFormed(fields) else {
            throw ASRRefused(.recordMalformed, "it is not a record of a channel")
        }
        guard
            fields["name"] == .string(name), fields["channel"] == .string(channel),
            fields["counter"]?.integer == counter
        else {
            throw ASRRefused(.identityMismatch, "record \(counter) of \(name)@\(channel) was signed as another one")
        }
        self.counter = counter
        version = try Names.version(fields["version"]?.string)
        header = fields["header"]?.string ?? ""
        previous = fields["previous"]?.string
        digest = SHA256.hex(raw)
        remote = fields["remote"]?.string
        expires = fields["expires"]?.string.flatMap(Self.time)
        key = fields["key"]?.string
        rotates = fields["why"] == .string("rotate")
    }

    /// The key that a rotation hands the channel over to, which must have signed it as well.
    func handedOver() throws -> ASRPublicKey? {
        guard rotates, let by = signers.first else { return nil }
        guard
            let raw = key.flatMap(Envelope.decoded),
            let new = try? ASRPublicKey(raw: raw, label: nil)
        else { throw ASRRefused(.recordMalformed, "the key it hands over to is not a public key") }
        do { _ = try envelope.signers([new.id: new]) } catch let refused as ASRRefused {
            guard refused.reason != .badSignature else { throw refused }
            throw ASRRefused(.notSigned, "the key that \(by.label) hands the channel over to has not signed the record")
        }
        return new
    }

    private static func isWellFormed(_ fields: [String: CanonicalJSON]) -> Bool {
        var extra = Set(fields.keys).subtracting(keys)
        var format = "asrbuild-channel/1"
        if extra.remove("evidence") != nil {
            format = "asrbuild-channel/2"
            guard isEvidence(fields["evidence"]) else { return false }
        }
        let bound: Set<String> = ["expires", "remote"]
        let why = fields["why"]?.string ?? ""
        guard
            keys.isSubset(of: fields.keys), why == "rotate" ? extra == bound.union(["key"]) : extra.isEmpty || extra == bound,
            fields["format"] == .string(format), case .number(let counter)? = fields["counter"], isWhole(counter),
            Names.isDigest(fields["header"]?.string),
            fields["previous"] == .null || Names.isDigest(fields["previous"]?.string),
            fields["time"]?.string != nil, ["set", "rollback", "rotate"].contains(why)
        else { return false }
        guard !extra.isEmpty else { return true }
        let expires = fields["expires"]
        return Names.isIdentity(fields["remote"]?.string)
            && (expires == .null || expires?.string.flatMap(time) != nil)
            && (fields["key"] == nil || fields["key"] == .null || fields["key"]?.string != nil)
    }

    private static func isWhole(_ number: String) -> Bool { !number.contains { ".e".contains($0) } }

    /// Whether this is a policy with its evidence, or the reason for moving without.
    private static func isEvidence(_ value: CanonicalJSON?) -> Bool {
        guard
            let fields = value?.object, Set(fields.keys) == ["policy", "digests", "without"],
            let digests = fields["digests"]?.array, digests.allSatisfy({ Names.isDigest($0.string) }),
            fields["policy"] == .null || Names.isDigest(fields["policy"]?.string)
        else { return false }
        if fields["without"] == .null { return fields["policy"] != .null && !digests.isEmpty }
        guard let reason = fields["without"]?.string else { return false }
        let isPrintable = reason.unicodeScalars.allSatisfy { scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: return false
            case .spaceSeparator: return scalar == " "
            default: return true
            }
        }
        return (1...500).contains(reason.unicodeScalars.count) && isPrintable
            && reason.first != " " && reason.last != " "
    }

    /// Seconds since 1970 of a time such as `2026-11-26T07:00:00+00:00`.
    private static func time(_ text: String) -> Double? {
        let pattern = "dddd-dd-ddTdd:dd:dd+00:00"
        let fits = text.utf8.count == pattern.utf8.count && zip(text.utf8, pattern.utf8).allSatisfy { byte, sign in
            sign == UInt8(ascii: "d") ? (0x30...0x39).contains(byte) : byte == sign
        }
        let n = text.split { !$0.isNumber }.compactMap { Int($0) }
        guard fits, n[0] > 0, (1...12).contains(n[1]), n[3] < 24, n[4] < 60, n[5] < 60 else { return nil }
        let leaps = n[0] % 4 == 0 && (n[0] % 100 != 0 || n[0] % 400 == 0)
        let lengths = [31, leaps ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard (1...lengths[n[1] - 1]).contains(n[2]) else { return nil }
        let years = n[0] - 1
        let days = 365 * years + years / 4 - years / 100 + years / 400 + lengths[..<(n[1] - 1)].reduce(0, +) + n[2] - 1
        // 1970 began 719162 days after the year 1.
        return Double(((days - 719_162) * 24 + n[3]) * 3600 + n[4] * 60 + n[5])
    }
}
