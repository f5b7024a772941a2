import ASRCore
import Foundation

/// One artifact of several, with the signed facts that a device chooses by.
struct Variant {
    let name: String
    let version: String
    /// Digest of its header.
    let header: String
    /// Of its Core ML package.
    let bytes: Int
    private let minimumOs: [String: CanonicalJSON]
    private let json: CanonicalJSON

    /// A signed list of variants; whether their artifacts are there is not checked.
    static func list(_ listed: CanonicalJSON?) throws -> [Variant] {
        guard let listed = listed?.array else { throw ASRRefused(.headerMalformed, "its variants are not a list") }
        guard (1...32).contains(listed.count) else {
            throw ASRRefused(.tooManyFiles, "it has \(listed.count) variants, 1 to 32 are read")
        }
        guard listed.allSatisfy(isWellFormed) else {
            throw ASRRefused(.headerMalformed, "an entry of its variants is not one of a variant")
        }
        let variants = try listed.map { try Variant($0) }
        guard Set(variants.map { "\($0.name)/\($0.version)" }).count == variants.count else {
            throw ASRRefused(.duplicatePath, "it has an artifact twice")
        }
        return variants
    }

    /// The first that a system loads and that is small enough.
    static func choose(_ variants: [Variant], _ system: ASRSystemVersion, _ maxBytes: Int?) throws -> Variant {
        let chosen = variants.first { variant in
            guard let least = variant.minimumOs[system.name]?.string else { return false }
            return system.isAtLeast(ASRSystemVersion(name: system.name, version: least))
                && variant.bytes <= maxBytes ?? variant.bytes
        }
        guard let chosen = chosen else {
            let small = maxBytes.map { ", with at most \($0) bytes" } ?? ""
            let version = system.numbers.map(String.init).joined(separator: ".")
            throw ASRDeliveryError.doesNotRun("\(system.name) \(version)\(small)")
        }
        return chosen
    }

    /// Refuses a variant that contradicts its artifact's manifest.
    func check(_ manifest: Manifest, of header: Header) throws {
        guard manifest.variant(of: header) == json else {
            throw ASRRefused(.manifestMismatch, "the manifest of \(name) \(version) contradicts its variant")
        }
    }

    /// A variant as a manifest describes its own artifact.
    init(_ manifest: Manifest, of header: Header) throws { try self.init(manifest.variant(of: header)) }

    private init(_ json: CanonicalJSON) throws {
        name = try Names.name(json["name"]?.string)
        version = try Names.version(json["version"]?.string)
        header = json["header"]?.string ?? ""
        bytes = json["bytes"]?.integer ?? .max
        minimumOs = json["minimum_os"]?.object ?? [:]
        self.json = json
    }

    private static func isWellFormed(_ entry: CanonicalJSON) -> Bool {
        let words = ["compress", "compute_units", "format", "header", "name", "precision", "version"]
        guard
            let fields = entry.object, Set(fields.keys) == Set(words + ["bytes", "minimum_os"]),
            case .number(let bytes)? = fields["bytes"], bytes.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let systems = fields["minimum_os"]?.object
        else { return false }
        return words.allSatisfy { Names.isShownWord(fields[$0]?.string) }
            && systems.allSatisfy { Names.isShownWord($0.key) && Names.isSystemVersion($0.value.string) }
    }
}

/// A version on a remote: an artifact, or a set of variants with a name and a version of its own.
enum Published {
    case artifact(Header)
    case set(name: String, version: String, [Variant], Envelope)

    private static let format = "asrbuild-set/1"
    private static let type = "application/vnd.asrbuild.set+json"

    /// Checks shape, limits and names; no signature.
    init(_ raw: Data) throws {
        // The keys are sorted, so a set ends with this, and a header does not.
        let end = Data("\"format\":\"\(Self.format)\"}".utf8)
        guard raw.suffix(end.count) == end else {
            self = .artifact(try Header(raw))
            return
        }
        let fields = try Header.fields(raw, Self.format, ["envelope", "format"])
        let envelope = try Envelope(fields["envelope"], type: Self.type, malformed: .headerMalformed)
        let signed = try envelope.json(.headerMalformed)
        guard let keys = signed.object?.keys, Set(keys) == ["name", "variants", "version"] else {
            throw ASRRefused(.headerMalformed, "the signed content is not a set")
        }
        let (name, version) = (try Names.name(signed["name"]?.string), try Names.version(signed["version"]?.string))
        let variants = try Variant.list(signed["variants"])
        let listed = CanonicalJSON.array(variants.map { .string("\($0.name)/\($0.version)") })
        guard version.split(separator: "+").last.map(String.init) == String(SHA256.hex(listed.spelled.utf8).prefix(12)) else {
            throw ASRRefused(.identityMismatch, "the version \(version) is not that of these variants")
        }
        self = .set(name: name, version: version, variants, envelope)
    }

    /// Name and version.
    var identity: (name: String, version: String) {
        switch self {
        case .artifact(let header): return (header.name, header.version)
        case .set(let name, let version, _, _): return (name, version)
        }
    }

    /// The first trusted key that signed it.
    func signer(_ trust: Trust) throws -> ASRPublicKey {
        switch self {
        case .artifact(let header): return try header.signer(trust)
        case .set(_, _, _, let envelope): return try envelope.signers(trust)[0]
        }
    }
}
