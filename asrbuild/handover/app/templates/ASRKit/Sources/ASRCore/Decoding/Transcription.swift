/// One word, its times in seconds, and its confidence from 0 to 1.
public struct ASRWord: Codable, Equatable, Sendable {
    /// The word.
    public let text: String
    /// Seconds from the beginning of the utterance to the word's.
    public let start: Double
    /// Seconds to its end.
    public let end: Double
    /// The geometric mean of the probabilities of its labels.
    public let confidence: Double

    enum CodingKeys: String, CodingKey {
        case text
        case start = "start_s"
        case end = "end_s"
        case confidence
    }

    /// A word.
    public init(text: String, start: Double, end: Double, confidence: Double) {
        self.text = text
        self.start = start
        self.end = end
        self.confidence = confidence
    }
}

/// A transcript with its words.
public struct ASRTranscription: Codable, Equatable, Sendable {
    /// The whole text.
    public let text: String
    /// Its words in order.
    public let words: [ASRWord]

    /// A transcript.
    public init(text: String, words: [ASRWord]) {
        self.text = text
        self.words = words
    }
}

/// One of several transcripts of an utterance.
public struct ASRHypothesis: Codable, Equatable, Sendable {
    /// The whole text.
    public let text: String
    /// Its words in order.
    public let words: [ASRWord]
    /// The natural logarithm of its probability: of all alignments that the beam kept, with what a
    /// scorer adds; for greedy decoding, of its one alignment.
    public let confidence: Double

    /// A hypothesis.
    public init(text: String, words: [ASRWord], confidence: Double) {
        self.text = text
        self.words = words
        self.confidence = confidence
    }
}
