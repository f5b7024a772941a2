import ASRCore

extension ASRTranscriber {
    /// Transcribes with the model of an artifact, and the scorer that its manifest names.
    ///
    /// - Throws: as `init(manifest:model:decoder:scorer:)`, and where the scorer is not there.
    public init(
        _ artifact: ASRArtifact, model: any ASRAcousticModel, decoder: ASRDecoderChoice = .manifest
    ) throws {
        let named = decoder == .greedy ? nil : artifact.manifest.decoder.scorer
        try self.init(
            manifest: artifact.manifest, model: model, decoder: decoder,
            scorer: named.map { try ASRScorer(contentsOf: artifact.file($0.path)) }
        )
    }
}
