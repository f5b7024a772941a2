import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore

typealias Recording = ASRVectors.Recording

/// The artifact that this package lies in: its manifest and its conformance vectors.
struct Artifact {
    let folder: URL
    let manifest: ASRManifest
    let vectors: ASRVectors

    /// Reads the folder that `ASRKIT_ARTIFACT` names, or the one above this package.
    init() throws {
        if let path = ProcessInfo.processInfo.environment["ASRKIT_ARTIFACT"] {
            folder = URL(fileURLWithPath: path)
        } else {
            folder = (0..<4).reduce(URL(fileURLWithPath: #filePath)) { url, _ in
                url.deletingLastPathComponent()
            }
        }
        manifest = try ASRManifest.read(contentsOf: folder.appendingPathComponent("manifest.json"))
        vectors = try ASRVectors(contentsOf: folder.appendingPathComponent("conformance"))
    }

    func rows(_ recording: Recording, _ name: String) throws -> ASRRows {
        try vectors.rows(recording, name)
    }

    func samples(_ recording: Recording) throws -> [Int16] { try vectors.samples(recording) }

    func limit(_ step: String, _ measure: String) throws -> Float {
        try vectors.limit(step, measure)
    }

    /// A model that answers with the recorded outputs.
    func replay(_ recording: Recording) -> ASRReplayModel {
        ASRReplayModel(manifest, vectors, recording)
    }
}
