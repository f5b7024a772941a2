import Foundation

extension ASRManifest {
    /// Reads `manifest.json`, of it what runs the model.
    ///
    /// Keys that a newer minor version of the schema added are passed over.
    ///
    /// - Throws: `ASRError.unsupportedSchema` for another major version, `DecodingError` for what
    ///   breaks the schema.
    public static func read(_ data: Data) throws -> ASRManifest {
        let decoder = JSONDecoder()
        let found = try decoder.decode(Version.self, from: data).schema_version
        let given = numbers(found)
        let known = supportedSchemaVersions.map(numbers)
        guard given.count == 2, let own = known.first(where: { $0[0] == given[0] }) else {
            let majors = known.map { "\($0[0]).x" }.joined(separator: " and ")
            throw ASRError.unsupportedSchema(found: found, supported: majors)
        }
        decoder.userInfo[.ignoresUnknownKeys] = given[1] > own[1]
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
    private static func numbers(_ version: String) -> [Int] {
        let parts = version.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        return parts.count == 2 ? parts.compactMap { $0 } : []
    }
}
