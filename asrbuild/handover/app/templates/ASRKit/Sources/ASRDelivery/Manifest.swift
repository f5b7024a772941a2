import ASRCore
import Foundation

/// The values of an artifact's manifest that are compared with the signed ones.
struct Manifest {
    let name: String
    let version: String
    let files: [SignedFile]
    /// The digest whose first digits end the artifact's version: of the files and of the manifest
    /// without the facts of one run.
    let contentDigest: String
    private let json: CanonicalJSON
    private let packageBytes: Int

    /// Reads `manifest.json`, as strictly as the kit does.
    ///
    /// - Throws: as `ASRManifest.read`.
    init(_ bytes: Data) throws {
        let manifest = try ASRManifest.read(bytes)
        json = try CanonicalJSON(bytes, canonical: false)
        (name, version) = (manifest.name, manifest.version)
        files = manifest.files.map { SignedFile(path: $0.path, bytes: $0.bytes, sha256: $0.sha256) }
        // Not compared with the header yet: the sum may be of any numbers.
        packageBytes = manifest.files.filter { $0.role == "package" }.reduce(0) { $0 &+ $1.bytes }
        contentDigest = Self.contentDigest(json)
    }

    /// The facts that an app chooses a variant by.
    func variant(of header: Header) -> CanonicalJSON {
        let recipe = json["provenance"]?["recipe"]?["coreml"]
        let layers = recipe?["compress_layers"]?.object ?? [:]
        let methods = Set(layers.values.compactMap { $0.string.flatMap { $0.isEmpty ? nil : $0 } ?? recipe?["compress"]?.string })
        let compress = methods.subtracting(["none"]).sorted().joined(separator: "+")
        let model = json["model"]
        return .object([
            "header": .string(header.digest), "name": .string(name), "version": .string(version),
            "format": model?["format"] ?? .null, "precision": model?["compute_precision"] ?? .null,
            "compress": .string(compress.isEmpty ? "none" : compress),
            "compute_units": model?["recommended_compute_units"] ?? .null,
            "minimum_os": model?["minimum_os"] ?? .null, "bytes": .number(String(packageBytes)),
        ])
    }

    private static func contentDigest(_ json: CanonicalJSON) -> String {
        var core = json.without("artifact_id", "version", "verification").object ?? [:]
        let files = (core["files"]?.array ?? []).filter { file in
            !["parity", "report"].contains(file["role"]?.string)
        }
        core["files"] = .array(files)
        core["provenance"] = core["provenance"]?.without("created", "platform", "git", "overrides")
        // With a witness and without it, an artifact has one version.
        if let witness = json["verification"]?["witness"], witness != .null,
            core["schema_version"]?.string?.hasPrefix("1.") == true
        {
            core["schema_version"] = .string("1.1")
        }
        let digests = files.compactMap { file in file["path"]?.string.map { ($0, file["sha256"] ?? .null) } }
        let all: [String: CanonicalJSON] = [
            "files": .object(Dictionary(digests) { _, last in last }), "manifest": .object(core),
        ]
        return SHA256.hex(CanonicalJSON.object(all).spelled.utf8)
    }
}
