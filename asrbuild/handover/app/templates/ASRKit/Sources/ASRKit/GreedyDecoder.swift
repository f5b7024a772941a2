import Foundation

/// One word, its times in seconds, and its confidence from 0 to 1.
public struct Word: Codable, Equatable, Sendable {
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
}

/// A transcript with its words.
public struct Transcription: Codable, Equatable, Sendable {
    public let text: String
    public let words: [Word]
}

/// Greedy CTC decoding: the likeliest class of each step, repeats merged, blanks dropped.
public struct GreedyDecoder: Sendable {
    private let labels: [String]
    private let bytesOutput: Bool
    private let space: Int?
    private let stepSeconds: Double
    private var last: Int
    /// The labels so far: class, step and probability.
    private var found: [(label: Int, step: Int, probability: Float)] = []
    private var steps = 0

    public init(_ manifest: ASRManifest) throws {
        let decoder = manifest.decoder
        labels = decoder.alphabet
        bytesOutput = decoder.utf8
        space = decoder.alphabet.firstIndex(of: " ")
        stepSeconds = manifest.features.stepMs / 1000
        last = decoder.blankIndex
        guard decoder.blankIndex == labels.count else {
            throw ASRError.contradiction(
                "the blank is \(decoder.blankIndex), the alphabet has \(labels.count) labels"
            )
        }
        guard !bytesOutput || labels.count == 255 else {
            throw ASRError.contradiction("bytes output with \(labels.count) labels")
        }
    }

    private var blank: Int { labels.count }

    /// Takes the probabilities of more steps; returns the text so far.
    public mutating func feed(_ rows: Rows) throws -> String {
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
            }
            last = label
            steps += 1
        }
        return text
    }

    /// The text so far.
    public var text: String { spell(found.map(\.label)) }

    /// The text so far, and its words.
    public var transcription: Transcription {
        let words = found.split { $0.label == space }.map { labels in
            let logs = labels.map { log(max(Double($0.probability), 1e-30)) }
            return Word(
                text: spell(labels.map(\.label)),
                start: Double(labels[labels.startIndex].step) * stepSeconds,
                end: Double(labels[labels.endIndex - 1].step + 1) * stepSeconds,
                confidence: exp(logs.reduce(0, +) / Double(logs.count))
            )
        }
        return Transcription(text: text, words: words)
    }

    private func spell(_ found: [Int]) -> String {
        if bytesOutput {
            return String(decoding: found.map { UInt8($0 + 1) }, as: UTF8.self)
        }
        return found.map { labels[$0] }.joined()
    }
}
