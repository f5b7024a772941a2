import Foundation

extension ASRManifest {
    /// Reads `manifest.json`. Keys that a newer minor version of the schema added are ignored.
    ///
    /// - Throws: `ASRError.unsupportedSchema` for another major version, `DecodingError` for what
    ///   breaks the schema.
    public static func read(_ data: Data) throws -> ASRManifest {
        let decoder = JSONDecoder()
        let found = try decoder.decode(Version.self, from: data).schema_version
        let supported = parts(supportedSchemaVersion)
        let given = parts(found)
        guard given.count == 2, given[0] == supported[0] else {
            throw ASRError.unsupportedSchema(found: found, supported: "\(supported[0])")
        }
        decoder.userInfo[.ignoresUnknownKeys] = given[1] > supported[1]
        return try decoder.decode(ASRManifest.self, from: data)
    }

    /// Reads `manifest.json` at a file URL.
    public static func read(contentsOf url: URL) throws -> ASRManifest {
        try read(try Data(contentsOf: url))
    }

    private struct Version: Decodable {
        let schema_version: String
    }

    /// Major and minor version; fewer numbers where `version` is not one.
    private static func parts(_ version: String) -> [Int] {
        version.split(separator: ".", omittingEmptySubsequences: false).compactMap { Int($0) }
    }
}
