import Foundation

/// A DeepSpeech or Coqui scorer package: a language model, and the words that a decoder may write.
///
/// It is mapped into memory, not read: a package of a gigabyte takes the memory of its pages in use.
/// All that it says of itself is checked, and a damaged one is an `ASRError.badScorer`. The file must
/// stay as it is while it is in use.
public struct ASRScorer: Sendable {
    /// n of its n-grams.
    public let order: Int
    /// The weight of the language model that it was made with.
    public let alpha: Double
    /// The reward of each word that it was made with.
    public let beta: Double
    /// It is of single characters, spelled in UTF-8 bytes.
    public let bytes: Bool

    let model: LanguageModel
    private let file: MappedFile
    private let trieOffset: Int

    /// Opens a package.
    ///
    /// - Throws: `ASRError.badScorer` where it is no scorer, or damaged.
    public init(contentsOf url: URL) throws {
        file = try MappedFile(contentsOf: url)
        model = try LanguageModel(file)
        order = model.order
        var layout = FileLayout(size: file.bytes.count, at: model.end)
        let behind = "has no word trie behind its language model: it is truncated, or a bare KenLM model"
        guard let start = try? layout.take(25, ""), file.read(start, as: UInt32.self) == 0x5452_4945
        else { throw ASRError.badScorer(behind) }
        let version = file.read(start + 4, as: Int32.self)
        guard version == 6 else { throw ASRError.badScorer("has trie version \(version), not 6") }
        let flag = file.read(start + 8, as: UInt8.self)
        guard flag < 2 else { throw ASRError.badScorer("has a damaged word trie") }
        bytes = flag == 1
        alpha = file.double(start + 9)
        beta = file.double(start + 17)
        guard alpha.isFinite, beta.isFinite else {
            throw ASRError.badScorer("has no numbers as its alpha and beta")
        }
        trieOffset = layout.at
    }

    /// Refuses another file than the manifest names, by its size and its SHA-256.
    ///
    /// The digest is computed once, at the first call: a package of a gigabyte is read for it.
    ///
    /// - Throws: `ASRError.badScorer`.
    package func check(_ named: ASRManifest.Scorer, of manifest: ASRManifest) throws {
        let size = manifest.files.first { $0.path == named.path }?.bytes ?? file.bytes.count
        guard size == file.bytes.count else {
            throw ASRError.badScorer(
                "is not \(named.path) of the manifest: it has \(file.bytes.count) bytes, not \(size)")
        }
        guard file.sha256 == named.sha256 else {
            throw ASRError.badScorer(
                "is not \(named.path) of the manifest: its SHA-256 is \(file.sha256), not \(named.sha256)")
        }
    }

    /// The words for an alphabet, checked to be of it.
    func trie(for tokens: ASRTokens) throws -> WordTrie {
        guard bytes == (tokens.kind == .bytes) else {
            throw ASRError.badScorer(
                bytes ? "was made for UTF-8 bytes, the model writes characters"
                    : "was made for characters, the model writes UTF-8 bytes"
            )
        }
        let trie = try WordTrie(file, at: trieOffset, labels: tokens.classes - 1)
        guard !bytes else { return trie }
        guard let space = tokens.boundary, trie.endings == [space] else {
            throw ASRError.badScorer("was made for another alphabet: its words do not end with its space")
        }
        // With another alphabet the labels spell words that the language model does not know.
        let words = trie.someWords(200)
        let unknown = words.filter { word in
            var text: [UInt8] = [], damaged = false
            for label in word { text += tokens.printed[label] ?? [] }
            return model.index(Murmur.hash(text), &damaged) == 0
        }
        guard 2 * unknown.count <= words.count else {
            throw ASRError.badScorer(
                "was made for another alphabet: with this one its language model knows "
                    + "\(words.count - unknown.count) of \(words.count) words"
            )
        }
        return trie
    }
}
