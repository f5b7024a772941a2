/// A KenLM binary language model inside of a scorer, in any of KenLM's six data structures.
///
/// Its numbers are log10 probabilities and backoffs in single precision. The format is that of
/// KenLM's binary_format.hh, vocab.hh, search_hashed.hh and search_trie.hh, binary version 5.
struct LanguageModel: Sendable {
    /// n of its n-grams.
    let order: Int
    /// The offset of the model's end in the file.
    let end: Int

    private let file: MappedFile
    private let words: Words
    private let grams: Grams
    private let begin: UInt32

    private enum Words {
        case hashed(HashTable)
        case sorted(SortedWords)
    }

    private enum Grams {
        case hashed(HashedGrams)
        case tree(TreeGrams)
    }

    init(_ file: MappedFile) throws {
        let header = try ModelHeader(file)
        var layout = FileLayout(size: file.bytes.count, at: header.end)
        self.file = file
        order = header.counts.count
        if header.kind.isHashed {
            let start = try layout.take(8, "words")
            guard file.read(start, as: UInt32.self) == 0 else {
                throw ASRError.badScorer("has words in another format than version 0")
            }
            words = .hashed(
                try HashTable(&layout, header.counts[0], 12, header.multiplier, "words"))
            grams = .hashed(try HashedGrams(&layout, header))
        } else {
            words = .sorted(try SortedWords(file, &layout, header.counts[0]))
            grams = .tree(try TreeGrams(file, &layout, header))
        }
        end = layout.at
        var damaged = false
        begin = Self.index(Murmur.hash(Array("<s>".utf8)), in: words, file, &damaged)
        guard !damaged, begin <= header.counts[0] else { throw damage }
    }

    /// The index of a word by the hash of its text; 0 where the model does not have it.
    func index(_ hash: UInt64, _ damaged: inout Bool) -> UInt32 {
        Self.index(hash, in: words, file, &damaged)
    }

    private static func index(
        _ hash: UInt64, in words: Words, _ file: MappedFile, _ damaged: inout Bool
    ) -> UInt32 {
        switch words {
        case .hashed(let table):
            guard let entry = table.find(hash, file, &damaged) else { return 0 }
            let found = file.read(entry + 8, as: UInt32.self)
            guard found <= table.entries else {
                damaged = true
                return 0
            }
            return found
        case .sorted(let sorted):
            return sorted.index(hash, file)
        }
    }

    /// log10 of the probability of the last of these words after the others, in a history that
    /// begins a sentence or not, as KenLM adds it up.
    func score(_ sentence: [UInt32], beginning: Bool, _ state: inout HistoryState) -> Float {
        state.length = 0
        if beginning {
            state.length = 1
            state.words[0] = begin
            state.backoffs[0] = backoff(of: begin)
        }
        var probability: Float = 0
        for word in sentence {
            switch grams {
            case .hashed(let grams): probability = grams.score(word, &state, file)
            case .tree(let grams): probability = grams.score(word, &state, file)
            }
        }
        return probability
    }

    private func backoff(of word: UInt32) -> Float {
        switch grams {
        case .hashed(let grams): return file.float(grams.unigram(word) + 4)
        case .tree(let grams): return file.float(grams.unigram(word) + 4)
        }
    }

    private var damage: ASRError { .badScorer("has a damaged language model") }
}

/// The words that the next one is conditioned on, the latest first, and their backoffs.
struct HistoryState: Sendable {
    var words: [UInt32]
    var backoffs: [Float]
    var length = 0
    /// Something was read that no sound file has.
    var damaged = false
    private var nextWords: [UInt32]
    private var nextBackoffs: [Float]
    private var nextLength = 0

    init(order: Int) {
        words = [UInt32](repeating: 0, count: order)
        backoffs = [Float](repeating: 0, count: order)
        nextWords = words
        nextBackoffs = backoffs
    }

    /// Notes the backoff of the n-gram that ends with the new word.
    @inline(__always)
    mutating func extend(_ n: Int, backoff: Float) {
        nextBackoffs[n - 1] = backoff
        // KenLM marks what no longer n-gram continues by a backoff of -0.
        if backoff.bitPattern != 0x8000_0000 { nextLength = n }
    }

    /// Takes the new word on; returns the backoffs of the histories longer than `n` words.
    @inline(__always)
    mutating func advance(_ word: UInt32, found n: Int, probability: Float) -> Float {
        var sum = probability
        var at = n - 1
        while at < length {
            sum += backoffs[at]
            at += 1
        }
        if nextLength > 0 {
            nextWords[0] = word
            for at in 1..<max(nextLength, 1) { nextWords[at] = words[at - 1] }
        }
        swap(&words, &nextWords)
        swap(&backoffs, &nextBackoffs)
        length = nextLength
        nextLength = 0
        if !sum.isFinite { damaged = true }
        return sum
    }
}

/// The header of a KenLM file.
struct ModelHeader {
    enum Kind: UInt32 {
        case probing, restProbing, trie, quantisedTrie, arrayTrie, quantisedArrayTrie

        var isHashed: Bool { self == .probing || self == .restProbing }
        var isQuantised: Bool { self == .quantisedTrie || self == .quantisedArrayTrie }
        var isArray: Bool { self == .arrayTrie || self == .quantisedArrayTrie }
    }

    let kind: Kind
    let multiplier: Float
    /// The number of n-grams of each order.
    let counts: [Int]
    let end: Int

    init(_ file: MappedFile) throws {
        let magic = Array("mmap lm http://kheafield.com/code format version ".utf8)
        guard file.bytes.count > 200 else { throw ASRError.badScorer("is too short to be one") }
        guard file.bytes.starts(with: magic) else {
            throw ASRError.badScorer("does not start with a KenLM binary model")
        }
        guard Array(file.bytes[magic.count..<magic.count + 2]) == Array("5\n".utf8) else {
            throw ASRError.badScorer("has another version of KenLM's format than 5")
        }
        // Numbers by which KenLM recognizes its own machine's formats, after a text of 56 bytes.
        guard file.float(56) == 0, file.float(60) == 1, file.float(64) == -0.5,
            file.read(68, as: UInt32.self) == 1, file.read(72, as: UInt32.self) == .max,
            file.read(80, as: UInt64.self) == 1
        else { throw ASRError.badScorer("has a KenLM header of another machine") }
        let order = Int(file.read(88, as: UInt8.self))
        multiplier = file.float(92)
        let number = file.read(96, as: UInt32.self)
        guard (2...10).contains(order), let kind = Kind(rawValue: number), multiplier >= 1,
            multiplier <= 1000, file.read(104, as: UInt32.self) == (kind.isHashed ? 0 : 1)
        else {
            throw ASRError.badScorer("has a damaged KenLM header (order \(order), kind \(number))")
        }
        self.kind = kind
        var layout = FileLayout(size: file.bytes.count, at: 108)
        let start = try layout.take(order, of: 8, "header")
        counts = try (0..<order).map { n in
            let count = file.read(start + 8 * n, as: UInt64.self)
            guard count >= 1, count < 1 << 31 || n > 0, count < 1 << 40 else {
                throw ASRError.badScorer("has a damaged KenLM header (\(count) n-grams)")
            }
            return Int(count)
        }
        try layout.align(to: 8, "header")
        end = layout.at
    }
}

/// MurmurHash64A with seed 0: KenLM's key of a word.
enum Murmur {
    private static let factor: UInt64 = 0xc6a4_a793_5bd1_e995

    static func hash(_ text: [UInt8]) -> UInt64 {
        text.withUnsafeBytes { bytes in
            var value = UInt64(bytes.count) &* factor
            var at = 0
            while at + 8 <= bytes.count {
                var block = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                block = block &* factor
                block = (block ^ block >> 47) &* factor
                value = (value ^ block) &* factor
                at += 8
            }
            if at < bytes.count {
                var rest: UInt64 = 0
                for (place, byte) in bytes[at...].enumerated() { rest |= UInt64(byte) << (8 * place) }
                value = (value ^ rest) &* factor
            }
            value = (value ^ value >> 47) &* factor
            return value ^ value >> 47
        }
    }
}

/// KenLM's hash table with linear probing; an entry begins with its key, and key 0 is empty.
struct HashTable: Sendable {
    let entries: Int
    private let start: Int
    private let width: Int
    private let places: Int

    init(
        _ layout: inout FileLayout, _ entries: Int, _ width: Int, _ multiplier: Float,
        _ what: String
    ) throws {
        self.entries = entries
        self.width = width
        places = max(entries + 1, Int(multiplier * Float(entries)))
        start = try layout.take(places, of: width, what)
    }

    /// The offset of a key's entry.
    @inline(__always)
    func find(_ key: UInt64, _ file: MappedFile, _ damaged: inout Bool) -> Int? {
        var place = Int(key % UInt64(places))
        for _ in 0..<places {
            let entry = start + place * width
            let found = file.read(entry, as: UInt64.self)
            if found == key { return entry }
            if found == 0 { return nil }
            place += 1
            if place == places { place = 0 }
        }
        damaged = true
        return nil
    }
}

/// N-grams in hash tables, one for each order; `rest` costs are there and not used.
struct HashedGrams: Sendable {
    private let unigrams: Int
    private let unigramWidth: Int
    private let middles: [HashTable]
    private let longest: HashTable

    init(_ layout: inout FileLayout, _ header: ModelHeader) throws {
        let rest = header.kind == .restProbing ? 4 : 0
        unigramWidth = 8 + rest
        unigrams = try layout.take(header.counts[0] + 1, of: unigramWidth, "1-grams")
        middles = try header.counts.dropFirst().dropLast().enumerated().map { n, count in
            try HashTable(&layout, count, 16 + rest, header.multiplier, "\(n + 2)-grams")
        }
        longest = try HashTable(
            &layout, header.counts[header.counts.count - 1], 12, header.multiplier,
            "\(header.counts.count)-grams"
        )
    }

    @inline(__always)
    func unigram(_ word: UInt32) -> Int { unigrams + Int(word) * unigramWidth }

    func score(_ word: UInt32, _ state: inout HistoryState, _ file: MappedFile) -> Float {
        let entry = unigram(word)
        // The sign bit says whether a longer n-gram ends with this one; all are negative.
        var bits = file.read(entry, as: UInt32.self)
        state.extend(1, backoff: file.float(entry + 4))
        var found = 1
        var key = UInt64(word)
        for n in 0..<state.length {
            if bits & 0x8000_0000 != 0 { break }
            key = (key &* 8_978_948_897_894_561_157)
                ^ (UInt64(1 &+ state.words[n]) &* 17_894_857_484_156_487_943)
            guard n < middles.count else {
                if let entry = longest.find(key, file, &state.damaged) {
                    let longer = Float(bitPattern: file.read(entry + 8))
                    return state.advance(word, found: n + 2, probability: longer)
                }
                break
            }
            guard let entry = middles[n].find(key, file, &state.damaged) else { break }
            bits = file.read(entry + 8, as: UInt32.self)
            state.extend(n + 2, backoff: file.float(entry + 12))
            found = n + 2
        }
        return state.advance(
            word, found: found, probability: Float(bitPattern: bits | 0x8000_0000))
    }
}
