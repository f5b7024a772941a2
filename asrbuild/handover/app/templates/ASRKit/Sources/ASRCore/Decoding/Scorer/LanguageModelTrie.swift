/// The words of KenLM's tries: their hashes in order; a word's index is its place, from 1.
struct SortedWords: Sendable {
    private let start: Int
    private let count: Int

    init(_ file: MappedFile, _ layout: inout FileLayout, _ most: Int) throws {
        let head = try layout.take(8, "words")
        start = try layout.take(most, of: 8, "words")
        let written = file.read(head, as: UInt64.self)
        guard written <= UInt64(most) else {
            throw ASRError.badScorer("has a damaged language model (\(written) words)")
        }
        count = Int(written)
    }

    func index(_ hash: UInt64, _ file: MappedFile) -> UInt32 {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            let found = file.read(start + 8 * middle, as: UInt64.self)
            if found == hash { return UInt32(middle + 1) }
            if found < hash { low = middle + 1 } else { high = middle }
        }
        return 0
    }
}

/// N-grams in KenLM's trie: those of an order in one table of packed bits, sorted below the n-gram
/// they extend to the left; weights as they are or as places in tables of quantised ones.
struct TreeGrams: Sendable {
    private let unigrams: Int
    private let middles: [Middle]
    private let longest: BitTable
    private let longestWeights: Weights
    /// The number of bigrams.
    private let bigrams: UInt64

    private struct Middle {
        let table: BitTable
        let weights: Weights
        let pointers: Pointers
        /// The number of n-grams of the next order.
        let following: UInt64
    }

    init(_ file: MappedFile, _ layout: inout FileLayout, _ header: ModelHeader) throws {
        let orders = header.counts.count
        var widths: (probability: UInt64, backoff: UInt64) = (31, 32)
        var tables: [(probabilities: Int, backoffs: Int)?] = Array(repeating: nil, count: orders - 1)
        if header.kind.isQuantised {
            let start = try layout.take(8, "quantisation")
            widths = (
                UInt64(file.read(start + 1, as: UInt8.self)), UInt64(file.read(start + 2, as: UInt8.self))
            )
            guard file.read(start, as: UInt8.self) == 2, (1...25).contains(widths.probability),
                (1...25).contains(widths.backoff)
            else { throw ASRError.badScorer("has a damaged quantisation") }
            for n in 0..<orders - 1 {
                let probabilities = try layout.take(1 << Int(widths.probability), of: 4, "quantisation")
                // The longest n-grams have no backoff.
                let last = n == orders - 2
                let backoffs = try layout.take(last ? 0 : 1 << Int(widths.backoff), of: 4, "quantisation")
                tables[n] = (probabilities, backoffs)
            }
        }
        let total = UInt64(header.counts[0])
        unigrams = try layout.take(header.counts[0] + 2, of: 16, "1-grams")
        let wordBits = bitsNeeded(total)
        var most: UInt64 = 0
        if header.kind.isArray, orders > 2 {
            // The first of the arrays says for all how many bits may be cut off.
            var ahead = layout
            let start = try ahead.take(2, "array of pointers")
            guard file.read(start, as: UInt8.self) == 0 else {
                throw ASRError.badScorer("has a damaged array of pointers")
            }
            most = UInt64(file.read(start + 1, as: UInt8.self))
        }
        middles = try (1..<orders - 1).map { n in
            let count = UInt64(header.counts[n]), following = UInt64(header.counts[n + 1])
            let what = "\(n + 1)-grams"
            let pointers = try Pointers(
                &layout, count + 1, following, header.kind.isArray ? most : nil, what)
            let weights = Weights(
                probabilityBits: widths.probability, backoffBits: widths.backoff, tables: tables[n - 1])
            let table = try BitTable(
                &layout, entries: count, wordBits: wordBits,
                rest: widths.probability + widths.backoff + pointers.inlineBits, what)
            return Middle(table: table, weights: weights, pointers: pointers, following: following)
        }
        longestWeights = Weights(
            probabilityBits: widths.probability, backoffBits: 0, tables: tables[orders - 2])
        longest = try BitTable(
            &layout, entries: UInt64(header.counts[orders - 1]), wordBits: wordBits,
            rest: widths.probability, "\(orders)-grams")
        bigrams = UInt64(header.counts[1])
    }

    @inline(__always)
    func unigram(_ word: UInt32) -> Int { unigrams + Int(word) * 16 }

    func score(_ word: UInt32, _ state: inout HistoryState, _ file: MappedFile) -> Float {
        let entry = unigram(word)
        var probability = file.float(entry)
        state.extend(1, backoff: file.float(entry + 4))
        var found = 1
        var below = Places(begin: file.read(entry + 8), end: file.read(entry + 24))
        var following = bigrams
        for n in 0..<state.length {
            guard below.begin <= below.end, below.end <= following else {
                state.damaged = true
                break
            }
            if below.begin == below.end { break }
            guard n < middles.count else {
                if let at = longest.find(state.words[n], in: below, file) {
                    probability = longestWeights.probability(longest, at, file)
                    found = n + 2
                }
                break
            }
            let middle = middles[n]
            guard let at = middle.table.find(state.words[n], in: below, file) else { break }
            probability = middle.weights.probability(middle.table, at, file)
            state.extend(n + 2, backoff: middle.weights.backoff(middle.table, at, file))
            found = n + 2
            guard let next = middle.pointers.below(at, middle.table, file) else {
                state.damaged = true
                break
            }
            below = next
            following = middle.following
        }
        return state.advance(word, found: found, probability: probability)
    }
}

/// The n-grams below another one: places in the table of the next order.
struct Places: Sendable {
    let begin: UInt64
    let end: UInt64
}

/// Records of one order, each as many bits: a word's index, its weights, and for all but the
/// longest n-grams the place of the first n-gram below.
private struct BitTable: Sendable {
    let wordBits: UInt64
    let width: UInt64
    let entries: UInt64
    private let start: Int

    init(
        _ layout: inout FileLayout, entries: UInt64, wordBits: UInt64, rest: UInt64, _ what: String
    ) throws {
        self.entries = entries
        self.wordBits = wordBits
        width = wordBits + rest
        // A record more, for the end of the last one's range; 8 bytes, so that all can be read.
        start = try layout.take(Int(((1 + entries) * width + 7) / 8 + 8), what)
    }

    /// The bits of a record from `offset` on; at most 57 of them, of a record in the table.
    @inline(__always)
    func bits(_ record: UInt64, _ offset: UInt64, _ count: UInt64, _ file: MappedFile) -> UInt64 {
        let at = record * width + offset
        let word: UInt64 = file.read(start + Int(at >> 3))
        return word >> (at & 7) & (1 << count - 1)
    }

    /// The record of a word within a range, which is sorted.
    func find(_ word: UInt32, in range: Places, _ file: MappedFile) -> UInt64? {
        var low = range.begin
        var high = range.end
        while low < high {
            let middle = (low + high) / 2
            let found = bits(middle, 0, wordBits, file)
            if found == word { return middle }
            if found < word { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}

/// The form of an order's weights in its records: probability and backoff as they are, or as
/// places in two tables of the file.
private struct Weights: Sendable {
    let probabilityBits: UInt64
    let backoffBits: UInt64
    let tables: (probabilities: Int, backoffs: Int)?

    @inline(__always)
    func probability(_ table: BitTable, _ record: UInt64, _ file: MappedFile) -> Float {
        // In a record of places the backoff comes first.
        let offset = table.wordBits + (tables == nil ? 0 : backoffBits)
        let bits = table.bits(record, offset, probabilityBits, file)
        guard let tables else { return Float(bitPattern: UInt32(bits) | 0x8000_0000) }
        return file.float(tables.probabilities + 4 * Int(bits))
    }

    @inline(__always)
    func backoff(_ table: BitTable, _ record: UInt64, _ file: MappedFile) -> Float {
        let offset = table.wordBits + (tables == nil ? probabilityBits : 0)
        let bits = table.bits(record, offset, backoffBits, file)
        guard let tables else { return Float(bitPattern: UInt32(bits)) }
        return file.float(tables.backoffs + 4 * Int(bits))
    }
}

/// The place where the n-grams below a record begin: in the record, or with its upper bits in an
/// array that says from which record on they count (Raj and Whittaker, 2003).
private struct Pointers: Sendable {
    let inlineBits: UInt64
    /// The array and how many numbers it has; nil: there is none.
    private let array: (start: Int, count: Int)?

    /// - Parameters:
    ///   - records: how many pointers there are.
    ///   - most: what the greatest of them is.
    ///   - cut: how many bits may be in the array; nil: there is none.
    init(
        _ layout: inout FileLayout, _ records: UInt64, _ most: UInt64, _ cut: UInt64?, _ what: String
    ) throws {
        let needed = bitsNeeded(most)
        guard let cut else {
            inlineBits = needed
            array = nil
            return
        }
        // As many as make the file smallest, in bits.
        let best = (0...min(needed, cut)).min { cost($0) < cost($1) } ?? 0
        func cost(_ cut: UInt64) -> Int64 {
            Int64(most >> (needed - cut)) * 64 - Int64(records) * Int64(cut)
        }
        inlineBits = needed - best
        let count = Int(most >> inlineBits) + 1
        var inside = layout
        try inside.align(to: 8, what)
        array = (inside.at + 8, count)
        _ = try layout.take(8 * (1 + count) + 7, what)
    }

    /// The n-grams below a record; nil where the array is damaged.
    @inline(__always)
    func below(_ record: UInt64, _ table: BitTable, _ file: MappedFile) -> Places? {
        let offset = table.width - inlineBits
        let begin = table.bits(record, offset, inlineBits, file)
        let end = table.bits(record + 1, offset, inlineBits, file)
        guard let array else { return Places(begin: begin, end: end) }
        guard let first = upper(record, array, file), let last = upper(record + 1, array, file) else {
            return nil
        }
        return Places(begin: first << inlineBits | begin, end: last << inlineBits | end)
    }

    /// The last place of the array whose number is at most `record`.
    private func upper(
        _ record: UInt64, _ array: (start: Int, count: Int), _ file: MappedFile
    ) -> UInt64? {
        var low = 0
        var high = array.count
        while low < high {
            let middle = (low + high) / 2
            if file.read(array.start + 8 * middle, as: UInt64.self) <= record {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low == 0 ? nil : UInt64(low - 1)
    }
}

/// The number of bits of a number up to `most`.
private func bitsNeeded(_ most: UInt64) -> UInt64 {
    UInt64(64 - most.leadingZeroBitCount)
}
