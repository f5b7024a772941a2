import Foundation

/// One word, its times in seconds, and its confidence from 0 to 1.
public struct ASRWord: Codable, Equatable, Sendable {
    public let text: String
    public let start: Double
    public let end: Double
    /// The geometric mean of the probabilities of its labels.
    public let confidence: Double

    enum CodingKeys: String, CodingKey {
        case text
        case start = "start_s"
        case end = "end_s"
        case confidence
    }

    public init(text: String, start: Double, end: Double, confidence: Double) {
        self.text = text
        self.start = start
        self.end = end
        self.confidence = confidence
    }
}

/// A transcript with its words.
public struct ASRTranscription: Codable, Equatable, Sendable {
    public let text: String
    public let words: [ASRWord]

    public init(text: String, words: [ASRWord]) {
        self.text = text
        self.words = words
    }
}

/// Greedy CTC decoding: the likeliest class of each step, repeats merged, blanks dropped.
public struct ASRGreedyDecoder: Sendable {
    private let labels: [String]
    private let bytesOutput: Bool
    private let space: Int?
    private let stepSeconds: Double
    private var last: Int
    /// The labels so far: class, step and probability.
    private var found: [(label: Int, step: Int, probability: Float)] = []
    private var steps = 0
    /// The text so far; of bytes up to the last one that begins a character.
    private var spelled = ""
    /// The bytes from there on: the character may not be whole yet.
    private var open: [UInt8] = []

    /// The text so far.
    public private(set) var text = ""

    public init(_ manifest: ASRManifest) throws {
        let decoder = manifest.decoder
        labels = decoder.alphabet
        bytesOutput = decoder.utf8
        space = decoder.alphabet.firstIndex(of: " ")
        stepSeconds = manifest.features.stepMs / 1000
        guard let blank = decoder.blankIndex, decoder.kind == nil else {
            throw ASRError.unsupported("labels of a manifest 2.0")
        }
        last = blank
        guard blank == labels.count else {
            throw ASRError.contradiction(
                "the blank is \(blank), the alphabet has \(labels.count) labels"
            )
        }
        guard !bytesOutput || labels.count == 255 else {
            throw ASRError.contradiction("bytes output with \(labels.count) labels")
        }
    }

    private var blank: Int { labels.count }

    /// Takes the probabilities of more steps; returns the text so far.
    public mutating func feed(_ rows: ASRRows) throws -> String {
        guard rows.width == labels.count + 1 else {
            throw ASRError.contradiction(
                "\(rows.width) classes, an alphabet of \(labels.count) labels and the blank"
            )
        }
        for row in 0..<rows.count {
            let probabilities = rows[row]
            // The first of equal classes, as in asrbuild's decoders.
            var best = probabilities.startIndex
            for index in probabilities.indices where probabilities[index] > probabilities[best] {
                best = index
            }
            let label = best - probabilities.startIndex
            if label != blank && label != last {
                found.append((label, steps, probabilities[best]))
                write(label)
            }
            last = label
            steps += 1
        }
        return text
    }

    /// Adds a label to the text, without spelling the text before it again.
    private mutating func write(_ label: Int) {
        guard bytesOutput else {
            text += labels[label]
            return
        }
        let byte = UInt8(label + 1)
        // Only a byte 10xxxxxx continues a character: any other one begins the next.
        if byte & 0b1100_0000 != 0b1000_0000 {
            spelled += String(decoding: open, as: UTF8.self)
            open = []
        }
        open.append(byte)
        text = spelled + String(decoding: open, as: UTF8.self)
    }

    /// The text so far, and its words.
    public var transcription: ASRTranscription {
        let words = found.split { $0.label == space }.map { labels in
            let logs = labels.map { log(max(Double($0.probability), 1e-30)) }
            return ASRWord(
                text: spell(labels.map(\.label)),
                start: Double(labels[labels.startIndex].step) * stepSeconds,
                end: Double(labels[labels.endIndex - 1].step + 1) * stepSeconds,
                confidence: exp(logs.reduce(0, +) / Double(logs.count))
            )
        }
        return ASRTranscription(text: text, words: words)
    }

    private func spell(_ found: [Int]) -> String {
        if bytesOutput {
            return String(decoding: found.map { UInt8($0 + 1) }, as: UTF8.self)
        }
        return found.map { labels[$0] }.joined()
    }
}
