/// The labels of a model: what its classes stand for, and how they become text.
///
/// Text of each kind:
///
/// - `characters`: the labels joined; the boundary label (`|`, `<space>`) is a space.
/// - `bytes`: UTF-8, a label for each of the bytes 1 to 255.
/// - `pieces`: SentencePiece's: `▁` begins a word and is a space; `<0x41>` is the byte 41.
/// - `phonemes`: parted by one space, words by ` | `.
/// - `classes`: one label for a row, such as a keyword; there is no blank.
public struct ASRTokens: Equatable, Sendable {
    /// The meaning of a class.
    public enum Kind: String, Codable, CaseIterable, Sendable {
        /// A character, or several that are written together.
        case characters
        /// A byte of UTF-8.
        case bytes
        /// A piece of SentencePiece.
        case pieces
        /// A phoneme.
        case phonemes
        /// One answer for a whole row.
        case classes
    }

    /// The kind of the labels.
    public let kind: Kind
    /// The labels by class, the blank's too.
    public let labels: [String]
    /// The class of the CTC blank; nil where the model has none.
    public let blank: Int?
    /// The class of the label that parts words, if there is one.
    public let boundary: Int?
    /// The classes that print nothing, such as `<unk>`.
    public let silent: Set<Int>

    /// The UTF-8 that each class prints; nil: nothing.
    let printed: [[UInt8]?]
    /// The classes that begin a word, of pieces.
    private let beginsWord: [Bool]

    /// The labels of a model with an alphabet, whose last class is the blank.
    ///
    /// - Parameter bytes: the labels are the bytes 1 to 255.
    public init(alphabet: [String], bytes: Bool = false) throws {
        guard !bytes || alphabet.count == 255 else {
            throw ASRError.contradiction("bytes output with \(alphabet.count) labels")
        }
        guard alphabet.allSatisfy({ !$0.isEmpty }) else {
            throw ASRError.contradiction("the alphabet has an empty label")
        }
        try self.init(
            kind: bytes ? .bytes : .characters, labels: alphabet + [""], blank: alphabet.count,
            boundary: alphabet.firstIndex { Array($0.utf8) == [0x20] }
        )
    }

    /// - Parameters:
    ///   - labels: one for each class, in the order of the classes; the blank has one as well.
    ///   - blank: the class of the CTC blank; nil for `classes`.
    ///   - boundary: the class of the label that parts words, if there is one.
    ///   - silent: the classes that print nothing.
    /// - Throws: `ASRError.contradiction` where a class is not one of the labels'.
    public init(
        kind: Kind, labels: [String], blank: Int?, boundary: Int? = nil, silent: Set<Int> = []
    ) throws {
        guard !labels.isEmpty else { throw ASRError.contradiction("the model has no labels") }
        for index in [blank, boundary].compactMap({ $0 }) + silent
        where !labels.indices.contains(index) {
            throw ASRError.contradiction("class \(index) of \(labels.count) labels")
        }
        guard (kind == .classes) == (blank == nil) else {
            throw ASRError.contradiction("labels of \(kind) \(blank == nil ? "without" : "with") a blank")
        }
        guard blank == nil || blank != boundary else {
            throw ASRError.contradiction("the blank is the word boundary as well")
        }
        self.kind = kind
        self.labels = labels
        self.blank = blank
        self.boundary = boundary
        self.silent = silent
        let mark = Array("\u{2581}".utf8)
        printed = labels.enumerated().map { index, label in
            guard index != blank, !silent.contains(index) else { return nil }
            switch kind {
            case .bytes: return [UInt8(truncatingIfNeeded: index + 1)]
            case .characters: return index == boundary ? [0x20] : Array(label.utf8)
            case .pieces:
                if let byte = byte(of: label) { return [byte] }
                return index == boundary ? [0x20] : Array(label.utf8)
            case .phonemes, .classes: return index == boundary ? Array("|".utf8) : Array(label.utf8)
            }
        }
        beginsWord = labels.enumerated().map { index, label in
            index == boundary || label.utf8.starts(with: mark)
        }
    }

    /// The number of the model's classes, including the blank.
    public var classes: Int { labels.count }

    /// Labels are parted by spaces in the text.
    var isParted: Bool { kind == .phonemes || kind == .classes }

    /// The text of a sequence of classes without blanks.
    public func text<Classes: Sequence>(of tokens: Classes) -> String where Classes.Element == Int {
        var written = TextWriter()
        for token in tokens { written.append(token, self) }
        return written.text
    }

    /// Whether every character of a text is a label.
    func spells(_ text: String) -> Bool {
        let known = Set(printed.compactMap { $0 })
        return text.unicodeScalars.allSatisfy { known.contains(Array(String($0).utf8)) }
    }

    /// The positions in `tokens` of each word's labels, in order; none is empty.
    public func words(of tokens: [Int]) -> [Range<Int>] {
        var edges: [Range<Int>] = []
        switch kind {
        case .classes:
            edges = tokens.indices.map { $0..<$0 + 1 }
        case .pieces:
            var start = 0
            for at in tokens.indices where at > 0 && beginsWord[tokens[at]] {
                edges.append(start..<at)
                start = at
            }
            if !tokens.isEmpty { edges.append(start..<tokens.count) }
        default:
            var start = 0
            for at in 0...tokens.count where at == tokens.count || tokens[at] == boundary {
                if start < at { edges.append(start..<at) }
                start = at + 1
            }
        }
        return edges.filter { !text(of: tokens[$0]).isEmpty }
    }
}

/// The byte that a piece such as `<0x0A>` stands for.
private func byte(of label: String) -> UInt8? {
    let text = Array(label.utf8)
    guard text.count == 6, text.starts(with: Array("<0x".utf8)), text[5] == UInt8(ascii: ">"),
        text[3] != UInt8(ascii: "+")
    else { return nil }
    return UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16)
}
