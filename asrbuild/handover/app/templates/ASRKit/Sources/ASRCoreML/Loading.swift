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
    /// - Parameter open: loads a file; see `openModel`.
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
/// Loads a model file by its format: Core AI an `.aimodel`, Core ML the others.
public func openModel(_ file: ASRModelFile) async throws -> any ASRAcousticModel {
    guard file.manifest.model.format == .aimodel else {
        return try await ASRCoreMLModel(contentsOf: file.url, manifest: file.manifest)
    }
    #if canImport(CoreAI)
    if #available(iOS 27, macOS 27, *) {
        return try await ASRCoreAIModel(contentsOf: file.url, manifest: file.manifest)
    }
    #endif
    throw ASRError.unsupported("an .aimodel on this system")
}
#endif
