/// The words that a scorer lets a decoder write, as an automaton of labels inside of its file.
///
/// It is an OpenFst ConstFst whose arcs are labelled with alphabet index + 1. Words end with the
/// space label; in UTF-8 mode they are single characters, spelled in bytes, and nothing ends them.
struct WordTrie: Sendable {
    private let file: MappedFile
    private let states: Int
    private let arcs: Int
    private let stateCount: Int

    /// The number of a state's arcs, and the place of the first one.
    struct Ways: Sendable {
        let first: Int
        let count: Int
    }

    /// One way: its alphabet index, and where it leads.
    struct Way: Sendable {
        let label: Int
        let state: Int32
    }

    /// Reads and checks the automaton at an offset.
    ///
    /// - Parameter labels: how many labels the alphabet has.
    init(_ file: MappedFile, at offset: Int, labels: Int) throws {
        let what = "word trie"
        var layout = FileLayout(size: file.bytes.count, at: offset)
        guard file.read(try layout.take(4, what), as: Int32.self) == 2_125_659_606 else {
            throw ASRError.badScorer("has no word trie behind its language model")
        }
        for wanted in ["const", "standard"] {
            let count = Int(file.read(try layout.take(4, what), as: Int32.self))
            guard count == wanted.utf8.count else {
                throw ASRError.badScorer("has a trie that is not a \(wanted) FST")
            }
            let start = try layout.take(count, what)
            guard file.bytes[start..<start + count].elementsEqual(wanted.utf8) else {
                throw ASRError.badScorer("has a trie that is not a \(wanted) FST")
            }
        }
        let fixed = try layout.take(40, what)
        let version = file.read(fixed, as: Int32.self)
        let flags = file.read(fixed + 4, as: Int32.self)
        let start = file.read(fixed + 16, as: Int64.self)
        let stateCount = file.read(fixed + 24, as: Int64.self)
        let arcCount = file.read(fixed + 32, as: Int64.self)
        guard (1...2).contains(version), flags & 3 == 0, start == 0, stateCount >= 1,
            stateCount < 1 << 31, arcCount >= 0, arcCount < 1 << 40
        else { throw ASRError.badScorer("has an empty or damaged trie") }
        // Of an older version all are aligned to 16 bytes of the file.
        let aligned = version == 1 || flags & 4 != 0
        if aligned { try layout.align(to: 16, what) }
        states = try layout.take(Int(stateCount), of: 20, what)
        if aligned { try layout.align(to: 16, what) }
        arcs = try layout.take(Int(arcCount), of: 16, what)
        self.file = file
        self.stateCount = Int(stateCount)
        try check(arcCount: Int(arcCount), labels: labels)
    }

    @inline(__always)
    func ways(_ state: Int32) -> Ways {
        let at = states + 20 * Int(state)
        return Ways(
            first: Int(file.read(at + 4, as: UInt32.self)), count: Int(file.read(at + 8, as: UInt32.self))
        )
    }

    @inline(__always)
    func way(_ number: Int) -> Way {
        let at = arcs + 16 * number
        return Way(label: Int(file.read(at, as: Int32.self)) - 1, state: file.read(at + 12))
    }

    /// Whether a word ends here.
    @inline(__always)
    func isFinal(_ state: Int32) -> Bool {
        file.float(states + 20 * Int(state)) != .infinity
    }

    /// The state after an arc: the start where a word ends.
    @inline(__always)
    func following(_ state: Int32) -> Int32 { isFinal(state) ? 0 : state }

    /// The way of a label.
    @inline(__always)
    func way(of label: Int, from state: Int32) -> Way? {
        let ways = ways(state)
        var low = ways.first
        var high = ways.first + ways.count
        while low < high {
            let middle = (low + high) / 2
            let found = way(middle)
            if found.label == label { return found }
            if found.label < label { low = middle + 1 } else { high = middle }
        }
        return nil
    }

    /// The labels whose ways lead to the end of a word.
    var endings: Set<Int> {
        var found: Set<Int> = []
        for state in 0..<Int32(stateCount) {
            let ways = ways(state)
            for number in ways.first..<ways.first + ways.count {
                let way = way(number)
                if isFinal(way.state) { found.insert(way.label) }
            }
        }
        return found
    }

    /// Some words, met on random ways from the start, without their last label.
    func someWords(_ tries: Int) -> Set<[Int]> {
        var found: Set<[Int]> = []
        var chance: UInt64 = 1
        for _ in 0..<tries {
            var state: Int32 = 0
            var labels: [Int] = []
            while case let ways = ways(state), ways.count > 0 {
                chance = chance &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let way = way(ways.first + Int(chance >> 33) % ways.count)
                labels.append(way.label)
                state = way.state
            }
            if isFinal(state), !labels.isEmpty { found.insert(labels.dropLast()) }
        }
        return found
    }

    /// Refuses what leads out of the file or round in circles, and labels without an order.
    private func check(arcCount: Int, labels: Int) throws {
        var arriving = [Int32](repeating: 0, count: stateCount)
        var used = 0
        for state in 0..<Int32(stateCount) {
            let ways = ways(state)
            // Those of a state lie behind those of the one before.
            guard ways.first == used, ways.count <= arcCount - used else { throw damage }
            used += ways.count
            var before = -1
            for number in ways.first..<ways.first + ways.count {
                let way = way(number)
                guard way.label > before, (0..<Int32(stateCount)).contains(way.state) else { throw damage }
                guard way.label < labels else {
                    throw ASRError.badScorer(
                        "was made for another alphabet: it spells words with label \(way.label), the "
                            + "alphabet has \(labels)"
                    )
                }
                before = way.label
                arriving[Int(way.state)] &+= 1
            }
        }
        // States that nothing leads to any more are taken away; a loop stays.
        var free = (0..<Int32(stateCount)).filter { arriving[Int($0)] == 0 }
        var taken = 0
        while let state = free.popLast() {
            taken += 1
            let ways = ways(state)
            for number in ways.first..<ways.first + ways.count {
                let next = Int(way(number).state)
                arriving[next] &-= 1
                if arriving[next] == 0 { free.append(Int32(next)) }
            }
        }
        guard taken == stateCount else { throw ASRError.badScorer("has a word trie with a loop") }
    }

    private var damage: ASRError { .badScorer("has a damaged word trie") }
}
