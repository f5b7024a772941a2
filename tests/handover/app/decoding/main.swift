// Decodes cases that a test wrote, and prints an answer for each as a line of JSON.
//
//     decode cases.json rows.f32

import ASRCore
import Foundation

struct Labels: Decodable {
    let kind: ASRTokens.Kind?
    let labels: [String]
    let bytes: Bool?
    let blank: Int?
    let boundary: Int?
    let silent: [Int]?

    func tokens() throws -> ASRTokens {
        guard let kind else { return try ASRTokens(alphabet: labels, bytes: bytes ?? false) }
        return try ASRTokens(
            kind: kind, labels: labels, blank: blank, boundary: boundary, silent: Set(silent ?? []))
    }
}

struct Case: Decodable {
    /// Of the labels, or of the manifest that says how to decode.
    let tokens: Int?
    let manifest: Int?
    /// The first row's place in the file, counted in numbers, and how many rows there are.
    let start: Int
    let rows: Int
    let classes: Int
    let output: ASRManifest.Tensor.Meaning
    let decoder: String
    let width: Int?
    let cutoff_prob: Double?
    let cutoff_top_n: Int?
    let scorer: String?
    let alpha: Double?
    let beta: Double?
    let hot_words: [String: Double]?
    let n_best: Int
    /// After how many rows each piece ends; the last one ends with the rows.
    let cuts: [Int]
}

struct Book: Decodable {
    let tokens: [Labels]
    let manifests: [String]
    let cases: [Case]
}

struct Answer: Encodable {
    var hypotheses: [ASRHypothesis] = []
    var partials: [String] = []
    var error: String?
    var seconds = 0.0
    /// The most memory that the program had so far.
    var peak_mib = 0.0
}

let book = try JSONDecoder().decode(
    Book.self, from: Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1])))
let numbers = try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[2])).withUnsafeBytes {
    Array($0.bindMemory(to: Float.self))
}

@MainActor
func decoder(_ each: Case) throws -> ASRDecoder {
    let scorer = try each.scorer.map { try ASRScorer(contentsOf: URL(fileURLWithPath: $0)) }
    if let number = each.manifest {
        let manifest = try ASRManifest.read(Data(book.manifests[number].utf8))
        let choices: [String: ASRDecoderChoice] = [
            "greedy": .greedy, "manifest": .manifest,
            "beam": .beam(width: each.width, hotWords: each.hot_words, alpha: each.alpha, beta: each.beta),
        ]
        return try ASRDecoder(choices[each.decoder]!, manifest, scorer: scorer)
    }
    let tokens = try book.tokens[each.tokens!].tokens()
    guard each.decoder == "beam" else { return ASRDecoder(greedy: tokens, stepSeconds: 0.02) }
    let settings = ASRBeamSettings(
        width: each.width ?? 500, cutoffProbability: each.cutoff_prob ?? 1,
        cutoffTop: each.cutoff_top_n ?? 40, alpha: each.alpha, beta: each.beta,
        hotWords: each.hot_words ?? [:])
    return try ASRDecoder(beam: settings, tokens, scorer: scorer, stepSeconds: 0.02)
}

@MainActor
func answer(_ each: Case) throws -> Answer {
    var decoder = try decoder(each)
    let values = Array(numbers[each.start..<each.start + each.rows * each.classes])
    let rows = try ASRRows(width: each.classes, values: values).probabilities(from: each.output)
    var answer = Answer()
    var first = 0
    let start = clock()
    for cut in each.cuts + [each.rows] {
        answer.partials.append(try decoder.feed(rows[first..<cut]))
        first = cut
    }
    answer.hypotheses = try decoder.hypotheses(each.n_best)
    answer.seconds = Double(clock() - start) / 1_000_000
    answer.peak_mib = peak()
    return answer
}

func peak() -> Double {
    var used = rusage()
    #if os(Linux)
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &used)
    return Double(used.ru_maxrss) / 1024
    #else
    getrusage(RUSAGE_SELF, &used)
    return Double(used.ru_maxrss) / 1_048_576
    #endif
}

let encoder = JSONEncoder()
for each in book.cases {
    var found: Answer
    do { found = try answer(each) } catch { found = Answer(error: "\(error)") }
    print(String(decoding: try encoder.encode(found), as: UTF8.self))
}
