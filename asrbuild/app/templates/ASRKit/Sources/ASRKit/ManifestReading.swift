import Foundation

extension ASRManifest {
    /// Reads `manifest.json`.
    ///
    /// - Throws: `ASRError.unsupportedSchema` for another major version, `DecodingError` for what
    ///   breaks the schema.
    public static func read(_ data: Data) throws -> ASRManifest {
        let decoder = JSONDecoder()
        let found = try decoder.decode(Version.self, from: data).schema_version
        let supported = major(supportedSchemaVersion)
        guard major(found) == supported else {
            throw ASRError.unsupportedSchema(found: found, supported: supported)
        }
        return try decoder.decode(ASRManifest.self, from: data)
    }

    /// Reads `manifest.json` at a file URL.
    public static func read(contentsOf url: URL) throws -> ASRManifest {
        try read(try Data(contentsOf: url))
    }

    private struct Version: Decodable {
        let schema_version: String
    }

    private static func major(_ version: String) -> String {
        String(version.prefix { $0 != "." })
    }
}
