/// A scorer's value for a prefix's last words.
struct Grammar: Sendable {
    /// The natural logarithm of the last word's probability after those before it.
    let probability: Double
    /// The boosts of the hot words among them.
    let boost: Float
}

/// A scorer with its weights and hot words.
final class LanguageScore: Sendable {
    /// The logarithm of a word that the language model does not have.
    private static let unknown = -1000.0

    let bytes: Bool
    /// The label that ends a word; in UTF-8 mode there is none.
    let space: Int
    let beta: Double
    private let alpha: Double
    private let scorer: ASRScorer
    private let tokens: ASRTokens
    private let trie: WordTrie
    private let hotWords: [UInt64: Float]

    /// The state with which one search reads a language model, and whether the model is damaged.
    struct Reading: Sendable {
        fileprivate var history: HistoryState
        fileprivate var sentence: [UInt32] = []
        fileprivate var damaged = false

        init(order: Int) { history = HistoryState(order: order) }

        func check() throws {
            if damaged || history.damaged { throw ASRError.badScorer("has a damaged language model") }
        }
    }

    /// A label by which a word goes on.
    struct Way: Sendable {
        /// Its place among the classes that are tried.
        let rank: Int32
        let label: Int32
        /// The state of the word trie after it.
        let state: Int32
    }

    init(_ scorer: ASRScorer, _ tokens: ASRTokens, _ settings: ASRBeamSettings) throws {
        self.scorer = scorer
        self.tokens = tokens
        trie = try scorer.trie(for: tokens)
        bytes = scorer.bytes
        space = bytes ? -1 : tokens.boundary ?? -1
        // The weights are single numbers in ds-ctcdecoder, and so are the boosts.
        alpha = Double(Float(settings.alpha ?? scorer.alpha))
        beta = Double(Float(settings.beta ?? scorer.beta))
        hotWords = Dictionary(
            settings.hotWords.map { (Murmur.hash(Array($0.utf8)), Float($1)) }, uniquingKeysWith: { $1 })
    }

    /// The state of the word trie after an arc.
    @inline(__always)
    func following(_ state: Int32) -> Int32 { trie.following(state) }

    /// The ways on from a place in the words, of the labels that are tried and in their order.
    @inline(__always)
    func ways(_ state: Int32, _ rank: [Int32], _ sorted: Bool, _ found: inout [Way]) {
        found.removeAll(keepingCapacity: true)
        let ways = trie.ways(state)
        for number in ways.first..<ways.first + ways.count {
            let way = trie.way(number)
            let place = rank[way.label]
            if place >= 0 { found.append(Way(rank: place, label: Int32(way.label), state: way.state)) }
        }
        if sorted, found.count > 1 { found.sort { $0.rank < $1.rank } }
    }

    /// A log probability with what the scorer says of the word that ends there.
    @inline(__always)
    func add(_ grammar: Grammar, to score: Float) -> Float {
        let more = Float((grammar.probability + Double(grammar.boost)) * alpha)
        return Float(Double(score + more) + beta)
    }

    /// The value that the end of the utterance adds to a prefix, without hot words.
    func ending(_ grammar: Grammar) -> Float {
        Float(Double(Float(grammar.probability * alpha)) + beta)
    }

    /// Whether the end of the utterance ends a word that nothing has scored yet.
    func endsOpen(_ node: Node, isStart: Bool) -> Bool {
        if isStart { return bytes }
        return bytes ? !node.character.isWhole : Int(node.label) != space
    }

    /// The hashes of the last words of a prefix, perhaps by one more label: as many as the language
    /// model's n-grams have, or all; the latest first.
    func words(of tree: PrefixTree, _ node: Int32, _ label: Int?) -> [UInt64] {
        var found: [UInt64] = []
        found.reserveCapacity(scorer.order)
        var word: [Int] = []
        var text: [UInt8] = []
        var walk = LabelWalk(tree, from: node)
        var next = label ?? walk.next(tree)
        while let last = next, found.count < scorer.order {
            // From its last label to its first.
            word.removeAll(keepingCapacity: true)
            var at: Int? = last
            while let label = at, bytes || label != space {
                word.append(label)
                if bytes, UInt8(truncatingIfNeeded: label + 1) & 0b1100_0000 != 0b1000_0000 { break }
                at = walk.next(tree)
            }
            text.removeAll(keepingCapacity: true)
            for label in word.reversed() {
                if let printed = tokens.printed[label] { text += printed }
            }
            found.append(Murmur.hash(text))
            next = walk.next(tree)
        }
        return found
    }

    /// Scores the latest of a prefix's words; they are as `words` gives them.
    func score(_ words: [UInt64], _ reading: inout Reading) -> Grammar {
        var boost: Float = 0
        if !hotWords.isEmpty {
            for word in words.reversed() { boost += hotWords[word] ?? 0 }
        }
        reading.sentence.removeAll(keepingCapacity: true)
        for word in words.reversed() {
            let index = scorer.model.index(word, &reading.damaged)
            guard index != 0 else { return Grammar(probability: Self.unknown, boost: boost) }
            reading.sentence.append(index)
        }
        guard !words.isEmpty else { return Grammar(probability: 0, boost: boost) }
        let found = scorer.model.score(
            reading.sentence, beginning: words.count < scorer.order, &reading.history)
        return Grammar(probability: Double(found) / Double(Float(0.4342944819)), boost: boost)
    }
}
