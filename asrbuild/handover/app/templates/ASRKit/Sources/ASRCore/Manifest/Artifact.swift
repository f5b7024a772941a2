import Foundation

/// The files of one artifact: in the artifact's own folder, or in an app under a name of their own.
///
/// An app has any number of artifacts. Of one called `prompts` it holds `prompts.manifest.json`,
/// `prompts.mlpackage` (which Xcode compiles to `prompts.mlmodelc`), further files as
/// `prompts.<file>`, and the vectors of its tests as `prompts.conformance`.
public struct ASRArtifact: Sendable {
    /// The artifact's manifest.
    public let manifest: ASRManifest
    /// The folder that its files lie in.
    public let folder: URL
    /// The name of its files in an app; nil: they have their own.
    public let name: String?

    /// An artifact as asrbuild publishes it: `manifest.json`, and the files that it names.
    ///
    /// - Throws: as `ASRManifest.read`.
    public init(folder: URL) throws {
        manifest = try ASRManifest.read(contentsOf: folder.appendingPathComponent("manifest.json"))
        self.folder = folder
        name = nil
    }

    /// An artifact under a name of its own in a folder.
    ///
    /// - Throws: as `ASRManifest.read`.
    public init(named name: String, in folder: URL) throws {
        let url = folder.appendingPathComponent("\(name).manifest.json")
        manifest = try ASRManifest.read(contentsOf: url)
        self.folder = folder
        self.name = name
    }

    /// An artifact under a name of its own in an app.
    ///
    /// - Throws: as `ASRManifest.read`.
    public init(named name: String, in bundle: Bundle = .main) throws {
        try self.init(named: name, in: bundle.resourceURL ?? bundle.bundleURL)
    }

    /// The same files with another function of the package.
    ///
    /// - Throws: as `ASRManifest.selecting`.
    public func selecting(function: String) throws -> ASRArtifact {
        ASRArtifact(try manifest.selecting(function: function), folder, name)
    }

    private init(_ manifest: ASRManifest, _ folder: URL, _ name: String?) {
        self.manifest = manifest
        self.folder = folder
        self.name = name
    }

    /// The model: compiled where Xcode did so, else the package itself.
    ///
    /// - Throws: `ASRError.unreadable` where there is none.
    public func model() throws -> URL {
        let package = try place(manifest.model.package)
        let compiled = package.deletingPathExtension().appendingPathExtension("mlmodelc")
        for url in [compiled, package] where FileManager.default.fileExists(atPath: url.path) {
            return url
        }
        throw ASRError.unreadable("there is no \(package.lastPathComponent)")
    }

    /// Another file that the manifest names, such as the scorer's.
    ///
    /// - Throws: `ASRError.unreadable` where it is not there.
    public func file(_ path: String) throws -> URL {
        let url = try place(path)
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw ASRError.unreadable("there is no \(url.lastPathComponent)")
        }
        return url
    }

    /// The folder of the conformance vectors; it need not be there.
    public var conformance: URL {
        folder.appendingPathComponent(name.map { "\($0).conformance" } ?? "conformance")
    }

    private func place(_ path: String) throws -> URL {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard let last = parts.last, !parts.contains(where: { ["", ".", ".."].contains($0) }) else {
            throw ASRError.contradiction("\(path) is not a file of the artifact")
        }
        guard let name = name else { return folder.appendingPathComponent(path) }
        // The package takes the name itself, other files keep theirs behind it.
        let own = path == manifest.model.package ? last.split(separator: ".").last ?? last : last
        return folder.appendingPathComponent("\(name).\(own)")
    }
}
