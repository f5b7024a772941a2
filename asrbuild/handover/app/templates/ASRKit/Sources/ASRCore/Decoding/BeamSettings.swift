/// The settings of a beam search, with or without a scorer.
public struct ASRBeamSettings: Equatable, Sendable {
    /// The number of hypotheses that are kept after each step.
    public var width: Int
    /// Only the likeliest labels that add up to this probability are tried; 1: all.
    public var cutoffProbability: Double
    /// At most this many labels are tried, where `cutoffProbability` is below 1.
    public var cutoffTop: Int
    /// The weight of the language model; nil: the scorer's own.
    public var alpha: Double?
    /// The reward of each word; nil: the scorer's own.
    public var beta: Double?
    /// Words with what is added to the logarithm of their probability.
    public var hotWords: [String: Double]

    /// Settings; the defaults are those of asrbuild's recipes.
    public init(
        width: Int = 500, cutoffProbability: Double = 1, cutoffTop: Int = 40, alpha: Double? = nil,
        beta: Double? = nil, hotWords: [String: Double] = [:]
    ) {
        self.width = width
        self.cutoffProbability = cutoffProbability
        self.cutoffTop = cutoffTop
        self.alpha = alpha
        self.beta = beta
        self.hotWords = hotWords
    }

    /// Refuses what no search can follow.
    func check(_ tokens: ASRTokens, _ scorer: ASRScorer?) throws {
        guard (1...1 << 20).contains(width) else { throw ASRError.unsupported("a beam of width \(width)") }
        guard cutoffProbability > 0, cutoffProbability <= 1 else {
            throw ASRError.unsupported("cutoff_prob \(cutoffProbability)")
        }
        guard cutoffTop >= 1 else { throw ASRError.unsupported("cutoff_top_n \(cutoffTop)") }
        let weights = [("lm_alpha", alpha), ("lm_beta", beta)] + hotWords.map { ("hot_words.\($0)", $1) }
        for (name, weight) in weights {
            guard let weight, !(abs(weight) <= 1e6) else { continue }
            throw ASRError.unsupported("\(name) \(weight)")
        }
        guard scorer == nil || tokens.kind == .characters || tokens.kind == .bytes else {
            throw ASRError.unsupported("a scorer for labels of \(tokens.kind.rawValue)")
        }
        guard !hotWords.isEmpty else { return }
        guard scorer != nil else { throw ASRError.unsupported("hot words without a scorer") }
        for word in hotWords.keys.sorted() {
            let one = tokens.kind == .bytes ? word.unicodeScalars.count == 1 : !word.isEmpty && !word.utf8.contains(0x20)
            guard one else { throw ASRError.unsupported("the hot word \"\(word)\", which is not one word") }
            guard tokens.kind == .bytes || tokens.spells(word) else {
                throw ASRError.unsupported("the hot word \"\(word)\", which the labels cannot spell")
            }
        }
    }
}
