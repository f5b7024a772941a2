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

    /// The package's input for a recording: windows of MFCC, other features, or samples.
    func fed(_ recording: Recording) throws -> ASRRows { try vectors.fed(recording, manifest) }

    /// Whether text comes before the end: calls are parts of an utterance, and features are as well.
    func textComesEarly() throws -> Bool {
        let features = try ASRFeatures(manifest)
        let waits = features.kind == .whisper || features.kind == .nemo && features.normalized
        return manifest.streaming.mode == .chunked && (features.inPackage || !waits)
    }

    /// The manifest without what 2.0 adds: a row for each step, and no context.
    var plain: ASRManifest {
        var manifest = self.manifest
        (manifest.rows, manifest.context) = (nil, nil)
        for index in manifest.state.indices { manifest.state[index].initial = .zeros }
        return manifest
    }

    /// The plain manifest of a package that takes calls of any size up to the largest.
    func taking(_ most: Int) throws -> ASRManifest {
        var manifest = plain
        let name = try Laid.fed(manifest).name
        for index in manifest.model.inputs.indices where manifest.model.inputs[index].name == name {
            let axes = manifest.model.inputs[index].shape
            let time = axes.firstIndex { ["steps", "samples", "rows"].contains($0.name) } ?? 1
            manifest.model.inputs[index].shape[time].enumerated = nil
            manifest.model.inputs[index].shape[time].min = 1
            manifest.model.inputs[index].shape[time].max = most
        }
        return manifest
    }

    /// The manifest with another alphabet, and a row for each step.
    func spelling(_ alphabet: [String], utf8: Bool = false) -> ASRManifest {
        var manifest = plain
        manifest.decoder.kind = nil
        manifest.decoder.alphabet = alphabet
        manifest.decoder.blankIndex = alphabet.count
        manifest.decoder.utf8 = utf8
        return manifest
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
