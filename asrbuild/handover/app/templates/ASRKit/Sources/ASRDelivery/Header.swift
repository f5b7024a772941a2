import ASRCore
import Foundation

/// One file of an artifact.
struct SignedFile: Hashable, Sendable {
    let path: String
    let bytes: Int
    let sha256: String
}

/// The signed header of one artifact: its name, version, files and the signatures over them.
struct Header: Sendable {
    static let format = "asrbuild-bundle/1"
    static let maxBytes = 1 << 20
    static let maxTotal = 1 << 36
    private static let type = "application/vnd.in-toto+json"

    let name: String
    let version: String
    let files: [SignedFile]
    let raw: Data
    private let envelope: Envelope

    /// SHA-256 of the header: it commits to every byte of the artifact.
    var digest: String { SHA256.hex(raw) }
    var total: Int { files.reduce(0) { $0 + $1.bytes } }
    /// The folder name of its files: another build of the version has another name.
    var folderName: String { "\(version)-\(digest.prefix(16))" }

    /// Checks shape, limits, names and paths, and that its statement agrees; no signature.
    init(_ raw: Data) throws {
        let fields = try Self.fields(raw, Self.format, ["envelope", "files", "format", "name", "version"])
        (name, version) = (try Names.name(fields["name"]?.string), try Names.version(fields["version"]?.string))
        files = try Self.files(fields["files"])
        self.raw = raw
        envelope = try Envelope(fields["envelope"], type: Self.type, malformed: .headerMalformed)
        let statement = try envelope.json(.headerMalformed)
        for needed in ["manifest.json", "SHA256SUMS"] { _ = try file(needed) }
        guard try file("manifest.json").bytes <= 8 << 20 else {
            throw ASRRefused(.tooLarge, "manifest.json is larger than 8 MiB")
        }
        try check(statement)
    }

    /// The fields of a header of a format, which has exactly these keys.
    static func fields(_ raw: Data, _ format: String, _ keys: Set<String>) throws -> [String: CanonicalJSON] {
        let value = try strict(raw, maxBytes, .headerMalformed)
        guard let fields = value.object, let found = fields["format"]?.string else {
            throw ASRRefused(.headerMalformed, "it does not name its format")
        }
        guard found == format else {
            throw ASRRefused(.unknownFormat, "its format is \(shown(found)), not \(format)")
        }
        guard Set(fields.keys) == keys else {
            throw ASRRefused(.headerMalformed, "its keys are not those of the format")
        }
        return fields
    }

    /// The entry of one file.
    func file(_ path: String) throws -> SignedFile {
        guard let file = files.first(where: { $0.path == path }) else {
            throw ASRRefused(.fileMissing, "it has no \(path)")
        }
        return file
    }

    /// The first trusted key that signed it.
    func signer(_ trust: Trust) throws -> ASRPublicKey { try envelope.signers(trust)[0] }

    /// Refuses the artifact's own manifest, whose bytes are proven, where it contradicts the header.
    func check(manifest: Manifest) throws {
        guard (manifest.name, manifest.version) == (name, version) else {
            let found = "\(shown(manifest.name)) \(shown(manifest.version))"
            throw ASRRefused(.identityMismatch, "the manifest is of \(found), not of \(name) \(version)")
        }
        if let stray = manifest.files.first(where: { !files.contains($0) }) {
            throw ASRRefused(.manifestMismatch, "the manifest lists another \(shown(stray.path)) than the header")
        }
        let claimed = version.split(separator: "+").last ?? ""
        guard claimed.count >= 12, manifest.contentDigest.hasPrefix(claimed) else {
            let found = manifest.contentDigest.prefix(12)
            throw ASRRefused(.identityMismatch, "the version ends in \(claimed), the content digest is \(found)")
        }
    }

    private static func files(_ listed: CanonicalJSON?) throws -> [SignedFile] {
        guard let listed = listed?.array else { throw ASRRefused(.headerMalformed, "its files are not a list") }
        guard listed.count <= 1024 else {
            throw ASRRefused(.tooManyFiles, "it has \(listed.count) files, at most 1024 are read")
        }
        var total = 0
        let files = try listed.map { entry -> SignedFile in
            guard
                entry.object?.count == 3, let path = entry["path"]?.string,
                case .number(let number)? = entry["bytes"], number.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let sha256 = entry["sha256"]?.string, Names.isDigest(sha256)
            else { throw ASRRefused(.headerMalformed, "an entry of its files is not one of a file") }
            // Numbers that no Int holds count as too many bytes, after the paths.
            let bytes = min(Int(number) ?? .max, maxTotal + 1)
            total = min(total + bytes, maxTotal + 1)
            return SignedFile(path: path, bytes: bytes, sha256: sha256)
        }
        try Names.checkPaths(files.map(\.path))
        guard total <= maxTotal else { throw ASRRefused(.tooLarge, "its files are larger than \(maxTotal) bytes") }
        return files
    }

    /// Refuses a statement that is not about this artifact and exactly these files.
    private func check(_ statement: CanonicalJSON) throws {
        let subjects = files.map { file -> CanonicalJSON in
            .object(["name": .string(file.path), "digest": .object(["sha256": .string(file.sha256)])])
        }
        let parameters = statement["predicate"]?["buildDefinition"]?["externalParameters"]
        let found = [
            statement["_type"], statement["predicateType"], statement["subject"],
            parameters?["name"], parameters?["version"],
        ]
        let expected: [CanonicalJSON] = [
            .string("https://in-toto.io/Statement/v1"), .string("https://slsa.dev/provenance/v1"),
            .array(subjects), .string(name), .string(version),
        ]
        guard found == expected else {
            throw ASRRefused(.statementMismatch, "the signed statement is not about this artifact and its files")
        }
    }
}
