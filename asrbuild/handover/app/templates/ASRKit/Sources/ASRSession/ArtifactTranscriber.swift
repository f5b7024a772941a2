import ASRCore

extension ASRTranscriber {
    /// Transcribes with the model of an artifact, and the scorer that its manifest names.
    ///
    /// - Throws: as `init(manifest:model:decoder:scorer:)`, and `ASRError.badScorer` where the file is
    ///   not the manifest's scorer.
    public init(
        _ artifact: ASRArtifact, model: any ASRAcousticModel, decoder: ASRDecoderChoice = .manifest
    ) throws {
        let named = decoder == .greedy ? nil : artifact.manifest.decoder.scorer
        let scorer = try named.map { named in
            let scorer = try ASRScorer(contentsOf: artifact.file(named.path))
            try scorer.check(named, of: artifact.manifest)
            return scorer
        }
        try self.init(manifest: artifact.manifest, model: model, decoder: decoder, scorer: scorer)
    }
}
