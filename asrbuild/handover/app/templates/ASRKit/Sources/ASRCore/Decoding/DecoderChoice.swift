/// The decoder that turns probabilities into words.
public enum ASRDecoderChoice: Equatable, Sendable {
    /// As the manifest's decoder section says, whole: the words are those of the artifact's proof.
    case manifest
    /// The likeliest class of each step, repeats merged, blanks dropped.
    case greedy
    /// Prefix beam search; with a scorer it follows a language model.
    ///
    /// A value of nil is the manifest's. Hot words, with what is added to the logarithm of their
    /// probability, require a scorer.
    case beam(
        width: Int? = nil, hotWords: [String: Double]? = nil, alpha: Double? = nil,
        beta: Double? = nil, cutoffProbability: Double? = nil, cutoffTop: Int? = nil
    )
}

extension ASRDecoder {
    /// The decoder of one utterance.
    ///
    /// - Parameters:
    ///   - choice: by the manifest, or another one for its labels.
    ///   - scorer: the manifest's, opened; for another choice any that fits the labels.
    /// - Throws: `ASRError.unsupported` where the choice cannot be followed whole,
    ///   `ASRError.badScorer` for a scorer of other labels.
    public init(
        _ choice: ASRDecoderChoice = .manifest, _ manifest: ASRManifest, scorer: ASRScorer? = nil
    ) throws {
        let section = manifest.decoder
        let tokens = try ASRTokens(section)
        let stepSeconds = (manifest.rows?.rowMs ?? manifest.features.stepMs) / 1000
        var settings = ASRBeamSettings(
            width: section.beamWidth, cutoffProbability: section.cutoffProb,
            cutoffTop: section.cutoffTopN
        )
        switch choice {
        case .greedy:
            self.init(greedy: tokens, stepSeconds: stepSeconds)
        case .beam(let width, let hotWords, let alpha, let beta, let cutoffProbability, let cutoffTop):
            settings.width = width ?? settings.width
            settings.cutoffProbability = cutoffProbability ?? settings.cutoffProbability
            settings.cutoffTop = cutoffTop ?? settings.cutoffTop
            settings.alpha = alpha ?? section.scorer?.lmAlpha
            settings.beta = beta ?? section.scorer?.lmBeta
            settings.hotWords = hotWords ?? (scorer == nil ? [:] : section.hotWords)
            try self.init(beam: settings, tokens, scorer: scorer, stepSeconds: stepSeconds)
        case .manifest:
            let spells = section.type == .dsCtcdecoder
            guard spells || (section.scorer == nil && section.hotWords.isEmpty) else {
                throw ASRError.contradiction(
                    "the decoder \(section.type.rawValue) uses no scorer and no hot words")
            }
            switch (section.scorer, scorer) {
            case (let named?, nil):
                throw ASRError.unsupported(
                    "the decoder without its scorer: open \(named.path) as an ASRScorer and pass it, or "
                        + "choose .greedy or .beam()"
                )
            case (nil, .some):
                throw ASRError.unsupported("a scorer, which the manifest does not name; choose .beam()")
            case (let named?, let scorer?):
                try scorer.check(named, of: manifest)
            case (nil, nil): break
            }
            guard section.type != .greedy else {
                self.init(greedy: tokens, stepSeconds: stepSeconds)
                return
            }
            settings.alpha = section.scorer?.lmAlpha
            settings.beta = section.scorer?.lmBeta
            settings.hotWords = section.hotWords
            // Without a scorer as well, ds-ctcdecoder reads characters and the blank behind them.
            try self.init(
                beam: settings, tokens, scorer: scorer, folded: spells, stepSeconds: stepSeconds)
        }
    }
}

extension ASRTokens {
    /// The labels of a manifest: of 2.0 all classes, before that an alphabet, whose blank is the last.
    public init(_ decoder: ASRManifest.Decoder) throws {
        if let kind = decoder.kind.flatMap({ Kind(rawValue: $0.rawValue) }) {
            try self.init(
                kind: kind, labels: decoder.alphabet, blank: decoder.blankIndex,
                boundary: decoder.boundaryIndex, silent: Set(decoder.silentIndices ?? []))
            return
        }
        guard decoder.blankIndex == decoder.alphabet.count else {
            throw ASRError.contradiction(
                "the blank is \(decoder.blankIndex.map(String.init) ?? "none"), the alphabet has "
                    + "\(decoder.alphabet.count) labels"
            )
        }
        try self.init(alphabet: decoder.alphabet, bytes: decoder.utf8)
    }
}
