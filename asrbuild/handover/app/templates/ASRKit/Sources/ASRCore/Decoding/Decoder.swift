import Foundation

/// The decoding of one utterance, step by step.
public struct ASRDecoder: Sendable {
    /// The labels that it writes.
    public let tokens: ASRTokens
    /// The text so far.
    public private(set) var text = ""

    private let stepSeconds: Double
    // One of the two.
    private var greedy: GreedySearch?
    private var beam: PrefixSearch?
    /// The permutation of rows into the order of the scorer's labels; nil: none is needed.
    private let folding: Folding?
    private var failure: (any Error)?
    /// The text of the labels that no later step changes, and the labels after them.
    private var written = TextWriter()
    private var writtenCount = 0
    private var open: [Int] = []

    /// Greedy decoding.
    ///
    /// - Parameter stepSeconds: seconds from one row to the next.
    public init(greedy tokens: ASRTokens, stepSeconds: Double) {
        self.tokens = tokens
        self.stepSeconds = stepSeconds
        folding = nil
        greedy = GreedySearch(tokens.blank)
    }

    /// Beam search.
    ///
    /// A scorer reads characters, the blank behind them: rows of other labels are put into that order,
    /// and the probability of a label that prints nothing is added to the blank's.
    ///
    /// - Throws: `ASRError.unsupported` for settings that cannot be followed, `ASRError.badScorer`
    ///   for a scorer of other labels.
    public init(
        beam settings: ASRBeamSettings, _ tokens: ASRTokens, scorer: ASRScorer? = nil,
        stepSeconds: Double
    ) throws {
        try self.init(
            beam: settings, tokens, scorer: scorer, folded: scorer != nil, stepSeconds: stepSeconds)
    }

    init(
        beam settings: ASRBeamSettings, _ tokens: ASRTokens, scorer: ASRScorer?, folded: Bool,
        stepSeconds: Double
    ) throws {
        folding = folded ? try Folding(tokens) : nil
        self.tokens = folding?.tokens ?? tokens
        self.stepSeconds = stepSeconds
        beam = try PrefixSearch(self.tokens, settings, scorer: scorer)
    }

    /// Takes the probabilities of more steps; returns the text so far.
    ///
    /// After an error the utterance cannot go on: it is thrown again.
    ///
    /// - Throws: `ASRError.badOutput` for rows that are not of probabilities.
    @discardableResult
    public mutating func feed(_ rows: ASRRows) throws -> String {
        if let failure { throw failure }
        do {
            try rows.checkProbabilities(classes: folding?.classes ?? tokens.classes)
            let rows = folding?.fold(rows) ?? rows
            for row in 0..<rows.count {
                greedy?.feed(rows[row])
                try beam?.feed(rows[row])
            }
            try write()
        } catch {
            failure = error
            throw error
        }
        return text
    }

    /// The text so far, and its words.
    public var transcription: ASRTranscription {
        get throws {
            let best = try hypotheses().first
            return ASRTranscription(text: best?.text ?? text, words: best?.words ?? [])
        }
    }

    /// The likeliest transcripts, best first, as if the utterance ended here; greedy decoding has one.
    public func hypotheses(_ count: Int = 1) throws -> [ASRHypothesis] {
        if let failure { throw failure }
        var search = beam
        let paths = try search?.best(count) ?? [greedy?.path].compactMap { $0 }
        return paths.map { path in
            ASRHypothesis(
                text: tokens.text(of: path.labels), words: words(of: path), confidence: path.score)
        }
    }

    private func words(of path: Path) -> [ASRWord] {
        tokens.words(of: path.labels).map { inside in
            let logs = path.probabilities[inside].map { log(max(Double($0), 1e-30)) }
            return ASRWord(
                text: tokens.text(of: path.labels[inside]),
                start: Double(path.steps[inside.lowerBound]) * stepSeconds,
                end: Double(path.steps[inside.upperBound - 1] + 1) * stepSeconds,
                confidence: exp(logs.reduce(0, +) / Double(logs.count))
            )
        }
    }

    /// Writes the text again where it has changed.
    private mutating func write() throws {
        if let greedy {
            let before = writtenCount
            for label in greedy.labels[writtenCount...] { written.append(label, tokens) }
            writtenCount = greedy.labels.count
            if writtenCount > before { text = written.text }
            return
        }
        guard let tail = try beam?.bestTail(), let settled = beam?.settled else { return }
        if settled.count == writtenCount, tail == open { return }
        for label in settled[writtenCount...] { written.append(label, tokens) }
        writtenCount = settled.count
        open = tail
        var whole = written
        for label in tail { whole.append(label, tokens) }
        text = whole.text
    }
}
