import ASRCore
import Foundation

/// A model file with its manifest: one variant of a set.
public struct ASRModelFile: Sendable {
    /// The file.
    public let url: URL
    /// Its manifest.
    public let manifest: ASRManifest

    /// A file with its manifest.
    public init(url: URL, manifest: ASRManifest) {
        self.url = url
        self.manifest = manifest
    }
}

/// A loaded model, and the manifest by which it is fed.
public struct ASRLoadedModel: Sendable {
    /// The model.
    public let model: any ASRAcousticModel
    /// Its manifest.
    public let manifest: ASRManifest
}

extension Sequence where Element == ASRModelFile {
    /// Of several variants, in the publisher's order, the first that this system loads.
    ///
    /// One that fails to load is passed over, so an `.aimodel` before a `.mlmodelc` falls back to
    /// Core ML.
    ///
    /// - Parameter open: loads a file; see `ASRModelFile.open`.
    public func loadFirst(
        on system: ASRSystemVersion = .current, open: (ASRModelFile) async throws -> any ASRAcousticModel
    ) async throws -> ASRLoadedModel {
        var failure: Error = ASRError.unsupported("every variant, on this system")
        for file in self where file.manifest.loads(on: system) {
            do {
                return ASRLoadedModel(model: try await open(file), manifest: file.manifest)
            } catch {
                failure = error
            }
        }
        throw failure
    }
}

extension ASRModelFile {
    /// The model file of an artifact.
    ///
    /// - Throws: `ASRError.unreadable` where there is none.
    public init(_ artifact: ASRArtifact) throws {
        self.init(url: try artifact.model(), manifest: artifact.manifest)
    }
}

#if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
extension ASRModelFile {
    /// Loads the model by its format: Core AI an `.aimodel`, Core ML the others.
    ///
    /// - Throws: `ASRError.unsupported` where the system has no Core AI, and as the models' initializers.
    public func open() async throws -> any ASRAcousticModel {
        guard manifest.model.format == .aimodel else {
            return try await ASRCoreMLModel(contentsOf: url, manifest: manifest)
        }
        #if canImport(CoreAI)
        if #available(iOS 27, macOS 27, *) {
            return try await ASRCoreAIModel(contentsOf: url, manifest: manifest)
        }
        #endif
        throw ASRError.unsupported("an .aimodel on this system")
    }
}

/// Loads a model file by its format.
@available(*, deprecated, renamed: "ASRModelFile.open(self:)")
public func openModel(_ file: ASRModelFile) async throws -> any ASRAcousticModel {
    try await file.open()
}
#endif
