import ASRCore
import Foundation

/// An artifact that is in the app's container, proven.
public struct ASRPulled: Sendable {
    /// Its name; of a set, that of the variant.
    public let name: String
    /// Its version.
    public let version: String
    /// The trusted key that signed it.
    public let signer: ASRPublicKey
    /// Its folder, with exactly the signed files.
    public let folder: URL
    /// Bytes that were not here; 0: it was here, and whole.
    public let fetchedBytes: Int
    /// Name and version of the set that it was chosen from.
    public let set: String?

    /// Its files, to be opened with the rest of the kit.
    ///
    /// - Throws: as `ASRManifest.read`.
    public func artifact() throws -> ASRArtifact { try ASRArtifact(folder: folder) }
}

/// The progress of a download.
public struct ASRPullProgress: Sendable, Equatable {
    /// The artifact's name.
    public let name: String
    /// Its version.
    public let version: String
    /// Bytes that are here; fewer than before where a file had to begin anew.
    public let bytes: Int
    /// Bytes of all files; what several of them share counts once.
    public let totalBytes: Int
}
