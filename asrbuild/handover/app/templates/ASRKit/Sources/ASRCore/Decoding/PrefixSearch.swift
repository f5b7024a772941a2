import Foundation

/// CTC prefix beam search, with or without a scorer: what ds-ctcdecoder 0.9.3 computes.
///
/// A prefix is a node of a tree of labels. After each step every prefix in the beam carries two log
/// probabilities: of all its alignments that end in a blank, and of those that do not. Sums are in
/// single precision and equally likely prefixes are cut as there, so that the same ones stay.
struct PrefixSearch: Sendable {
    private static let impossible = -Float.greatestFiniteMagnitude
    /// Leading steps whose blank is as likely as this are silence, and move no times.
    private static let silence = 0.999
    /// Labels up to which every prefix is tried with all of them: characters and bytes.
    private static let wholeTable = 320

    private let classes: Int
    private let blank: Int
    private let settings: ASRBeamSettings
    private let language: LanguageScore?
    private var reading: LanguageScore.Reading

    private var tree = PrefixTree()
    /// The prefixes in the beam.
    private var beam: [Int32] = [0]
    private var started = false
    private var step = 0

    // Of one step: the classes that are tried and their logarithms; their places by class, or -1.
    private var tried: [Int32] = []
    private var logs: [Float] = []
    private var rank: [Int32]
    /// Score below which nothing enters the beam.
    private var cut = -Float.infinity
    /// The classes are in the order of their probability.
    private var sorted = false
    private var candidates: [Candidate] = []
    private var places: [Place] = []
    private var outdated: [Int32] = []
    // The children that a node has, by label.
    private var marked: [Int32]
    private var mark: Int32 = 0
    private var ways: [LanguageScore.Way] = []
    // Of thousands of labels the likeliest, and how many of them each prefix tries.
    private var likeliest: [Int32] = []
    private var reach: [Int32] = []

    /// - Throws: `ASRError.badScorer` of a scorer that does not fit the labels.
    init(_ tokens: ASRTokens, _ settings: ASRBeamSettings, scorer: ASRScorer?) throws {
        guard let blank = tokens.blank else {
            throw ASRError.unsupported("a beam for a model without a blank")
        }
        try settings.check(tokens, scorer)
        classes = tokens.classes
        self.blank = blank
        self.settings = settings
        language = try scorer.map { try LanguageScore($0, tokens, settings) }
        reading = LanguageScore.Reading(order: scorer?.order ?? 1)
        rank = [Int32](repeating: -1, count: classes)
        marked = [Int32](repeating: 0, count: classes)
    }

    /// The labels that no later step changes.
    var settled: [Int] { tree.settled }

    /// Takes the probabilities of one more step; they are checked before.
    mutating func feed(_ row: ArraySlice<Float>) throws {
        row.withUnsafeBufferPointer { row in
            if Double(row[blank]) < Self.silence { started = true }
            if started { advance(row) }
        }
        step += 1
        try reading.check()
    }

    /// The likeliest prefixes, best first.
    ///
    /// The last word of each is scored as if it ended here. Prefixes that never had a probability are
    /// left out.
    mutating func best(_ count: Int) throws -> [Path] {
        var order = try ranking()
        let most = min(max(count, 1), order.count)
        Ordering.sortFirst(&order, most)
        return order[..<most].compactMap { place in
            let node = beam[Int(place.index)]
            let time = tree.nodes[Int(node)].time
            guard time != TimeTree.never else { return nil }
            let moments = tree.times.path(time)
            return Path(
                labels: tree.settled + tree.tail(node), steps: moments.map { Int($0.step) },
                probabilities: moments.map(\.probability), score: Double(place.score)
            )
        }
    }

    /// The labels of the likeliest prefix behind the settled ones; nil: it never had a probability.
    mutating func bestTail() throws -> [Int]? {
        var order = try ranking()
        Ordering.sortFirst(&order, 1)
        let node = beam[Int(order[0].index)]
        return tree.nodes[Int(node)].time == TimeTree.never ? nil : tree.tail(node)
    }

    private mutating func ranking() throws -> [Place] {
        let order = beam.indices.map { index in
            let node = tree.nodes[Int(beam[index])]
            var score = node.score
            if let language, language.endsOpen(node, isStart: tree.isStart(beam[index])) {
                score += language.ending(grammar(beam[index], language))
            }
            return Place(score: score, label: node.label, index: Int32(index))
        }
        try reading.check()
        return order
    }
}

/// A result of a search: labels, the step at which each one begins, its probability there,
/// and the log probability of all.
struct Path: Sendable {
    let labels: [Int]
    let steps: [Int]
    let probabilities: [Float]
    let score: Double
}

/// A prefix that may enter the beam: one that is in the tree, or a new one below `parent`.
private struct Candidate: Sendable {
    var node: Int32
    let parent: Int32
    let label: Int32
    let state: Int32
    let time: Int32
}

/// A prefix by its score; of equal ones the one with the lower last label comes first.
private struct Place: Ranked, Sendable {
    let score: Float
    let label: UInt32
    let index: Int32

    @inline(__always)
    func precedes(_ other: Place) -> Bool {
        score == other.score ? label < other.label : score > other.score
    }
}

/// A class by its probability.
private struct Likely: Ranked {
    let probability: Double
    let label: Int32

    @inline(__always)
    func precedes(_ other: Likely) -> Bool { probability > other.probability }
}

// One step.
extension PrefixSearch {
    private mutating func advance(_ row: UnsafeBufferPointer<Float>) {
        if let language { sortBeam(row, language) }
        chooseClasses(row)
        chooseReach()
        candidates.removeAll(keepingCapacity: true)
        places.removeAll(keepingCapacity: true)
        // Children before their parents, which they need as they were before the step.
        var node = tree.lowest(tree.root)
        while true {
            extend(node)
            update(node, row)
            if node == tree.root { break }
            node = tree.following(node)
        }
        keepBest(row)
        tree.settle()
        for label in tried { rank[Int(label)] = -1 }
    }

    /// Sorts the beam, and finds the score that its last prefix has at least after the step.
    private mutating func sortBeam(_ row: UnsafeBufferPointer<Float>, _ language: LanguageScore) {
        var order = beam.indices.map { index in
            let node = tree.nodes[Int(beam[index])]
            return Place(score: node.score, label: node.label, index: Int32(index))
        }
        Ordering.sortFirst(&order, order.count)
        beam = order.map { beam[Int($0.index)] }
        for (position, node) in beam.enumerated() { tree.nodes[Int(node)].position = Int32(position) }
        cut = -.infinity
        guard beam.count == settings.width, let last = order.last else { return }
        cut = Float(Double(last.score) + log(Double(row[blank])) - max(0, language.beta))
    }

    /// The classes to try, in order, with their logarithms.
    private mutating func chooseClasses(_ row: UnsafeBufferPointer<Float>) {
        tried.removeAll(keepingCapacity: true)
        logs.removeAll(keepingCapacity: true)
        sorted = settings.cutoffProbability < 1 || settings.cutoffTop < classes
        if sorted {
            var likely = row.indices.map { Likely(probability: Double(row[$0]), label: Int32($0)) }
            Ordering.sort(&likely)
            var sum = 0.0
            for (index, each) in likely.enumerated() {
                tried.append(each.label)
                sum += each.probability
                // Without a share to reach, all are tried.
                if settings.cutoffProbability < 1,
                    sum >= settings.cutoffProbability || index + 1 >= settings.cutoffTop
                { break }
            }
        } else {
            tried += 0..<Int32(classes)
        }
        for (place, label) in tried.enumerated() {
            rank[Int(label)] = Int32(place)
            logs.append(Float(log(Double(row[Int(label)]) + Double(Float.leastNormalMagnitude))))
        }
    }

    /// With thousands of labels, how many of the likeliest ones each prefix tries.
    ///
    /// Extension (i, r), of the prefix with i better ones by the label with r better ones, is at most
    /// as good as every extension (i', r') with i' <= i and r' <= r. All of these count but for one in
    /// each row, a label after itself: (i, r) has (i + 1) r - 1 others before it, and where these fill
    /// the beam it cannot enter.
    private mutating func chooseReach() {
        reach.removeAll(keepingCapacity: true)
        guard language == nil, tried.count > Self.wholeTable else { return }
        likeliest = tried.indices.sorted { logs[$0] > logs[$1] }.prefix(settings.width + 1).map { Int32($0) }
        let better = beam.indices.sorted {
            tree.nodes[Int(beam[$0])].score > tree.nodes[Int(beam[$1])].score
        }
        reach = [Int32](repeating: 0, count: beam.count)
        for (place, index) in better.enumerated() {
            reach[index] = Int32(min(likeliest.count, settings.width / (place + 1) + 1))
        }
    }

    /// Adds the prefixes that a node has by one more label, and that are not in the tree.
    @inline(__always)
    private mutating func extend(_ at: Int32) {
        let node = tree.nodes[Int(at)]
        guard node.position >= 0, node.score != Self.impossible else { return }
        mark &+= 1
        var child = node.firstChild
        while child >= 0 {
            marked[Int(tree.nodes[Int(child)].label)] = mark
            child = tree.nodes[Int(child)].next
        }
        if let language {
            language.ways(node.state, rank, sorted, &ways)
            for way in ways where marked[Int(way.label)] != mark {
                let log = logs[Int(way.rank)]
                if log + node.score < cut { continue }
                var score = extended(node, UInt32(way.label), log)
                if let word = reward(at, node, way.label, nil, language) {
                    score = language.add(word, to: score)
                }
                offer(at, node, way.label, language.following(way.state), score)
            }
        } else if reach.isEmpty {
            for place in tried.indices {
                let label = tried[place]
                guard label != Int32(blank), marked[Int(label)] != mark else { continue }
                offer(at, node, label, 0, extended(node, UInt32(label), logs[place]))
            }
        } else {
            for place in likeliest.prefix(Int(reach[Int(node.position)])) {
                let label = tried[Int(place)]
                guard label != Int32(blank), marked[Int(label)] != mark else { continue }
                offer(at, node, label, 0, extended(node, UInt32(label), logs[Int(place)]))
            }
        }
    }

    /// The log probability of a prefix by one more label; a label after itself only across a blank.
    @inline(__always)
    private func extended(_ node: Node, _ label: UInt32, _ log: Float) -> Float {
        guard label == node.label else { return log + node.score }
        return node.endsBlank > Self.impossible ? log + node.endsBlank : Self.impossible
    }

    @inline(__always)
    private mutating func offer(
        _ parent: Int32, _ node: Node, _ label: Int32, _ state: Int32, _ score: Float
    ) {
        places.append(Place(score: score, label: UInt32(label), index: Int32(candidates.count)))
        candidates.append(
            Candidate(node: -1, parent: parent, label: label, state: state, time: node.time))
    }

    /// Takes a node of the tree on by a step.
    @inline(__always)
    private mutating func update(_ at: Int32, _ row: UnsafeBufferPointer<Float>) {
        let node = tree.nodes[Int(at)]
        let place = node.label == .max ? -1 : rank[Int(node.label)]
        let isTried = node.position >= 0 && node.score != Self.impossible
        var repeated: Float?
        var arriving: Float?
        var parentFirst = false
        if place >= 0 {
            let log = logs[Int(place)]
            if isTried, !(log + node.score < cut) { repeated = log + node.endsLabel }
            if node.parent >= 0 {
                let parent = tree.nodes[Int(node.parent)]
                if parent.position >= 0, parent.score != Self.impossible, !(log + parent.score < cut) {
                    var score = extended(parent, node.label, log)
                    if let language, let word = reward(node.parent, parent, Int32(node.label), at, language) {
                        score = language.add(word, to: score)
                    }
                    arriving = score
                    parentFirst = parent.position < node.position
                }
            }
        }
        guard node.position >= 0 || arriving != nil else { return }
        // The likelier of the two says when the label begins; of equal ones the first.
        let endsLabel = logSum(repeated ?? Self.impossible, arriving ?? Self.impossible)
        var moved = false
        if let arriving {
            let rival = repeated ?? Self.impossible
            moved = parentFirst && repeated != nil
                ? arriving > Self.impossible && !(arriving < rival) : rival < arriving
        }
        var endsBlank = Self.impossible
        let last = rank[blank]
        if isTried, last >= 0, !(logs[Int(last)] + node.score < cut) {
            endsBlank = logs[Int(last)] + node.score
            // The blank keeps the old times if it is likelier; it is asked after the labels before it.
            if last > place, endsLabel < endsBlank { moved = false }
        }
        if moved {
            let before = tree.nodes[Int(node.parent)].time
            outdated.append(node.time)
            tree.nodes[Int(at)].time = tree.times.add(before, step, row[Int(node.label)])
        }
        let score = logSum(endsBlank, endsLabel)
        tree.nodes[Int(at)].endsLabel = endsLabel
        tree.nodes[Int(at)].endsBlank = endsBlank
        tree.nodes[Int(at)].score = score
        places.append(Place(score: score, label: node.label, index: Int32(candidates.count)))
        candidates.append(
            Candidate(node: at, parent: node.parent, label: 0, state: 0, time: TimeTree.never))
    }

    /// Makes the best candidates the beam; the others leave the tree.
    private mutating func keepBest(_ row: UnsafeBufferPointer<Float>) {
        let count = min(places.count, settings.width)
        if places.count > count { Ordering.select(&places, count) }
        // In the order of the walk, in which children lie behind each other.
        for place in places[..<count].sorted(by: { $0.index < $1.index }) {
            let candidate = candidates[Int(place.index)]
            if candidate.node < 0 { candidates[Int(place.index)].node = grow(candidate, place.score, row) }
        }
        beam.removeAll(keepingCapacity: true)
        for place in places[..<count] {
            let node = candidates[Int(place.index)].node
            tree.nodes[Int(node)].position = Int32(beam.count)
            beam.append(node)
        }
        for place in places[count...] {
            let node = candidates[Int(place.index)].node
            if node >= 0 { tree.nodes[Int(node)].position = -1 }
        }
        for place in places[count...] {
            let node = candidates[Int(place.index)].node
            if node >= 0 { tree.prune(node) }
        }
        for time in outdated { tree.times.release(time) }
        outdated.removeAll(keepingCapacity: true)
    }

    private mutating func grow(
        _ candidate: Candidate, _ score: Float, _ row: UnsafeBufferPointer<Float>
    ) -> Int32 {
        var node = Node(parent: candidate.parent, label: UInt32(candidate.label))
        node.state = candidate.state
        node.endsLabel = score
        node.score = score
        if score > Self.impossible {
            node.time = tree.times.add(candidate.time, step, row[Int(candidate.label)])
        }
        let byte = UInt8(truncatingIfNeeded: candidate.label + 1)
        node.character = tree.nodes[Int(candidate.parent)].character.adding(byte)
        return tree.grow(node)
    }

    /// log(exp(x) + exp(y)) in single precision.
    @inline(__always)
    private func logSum(_ x: Float, _ y: Float) -> Float {
        if x <= Self.impossible { return y }
        if y <= Self.impossible { return x }
        let most = max(x, y)
        return log(exp(x - most) + exp(y - most)) + most
    }
}

// What the scorer says.
extension PrefixSearch {
    /// A scorer's value for a prefix and one more label, where that ends a word; `child`: its node.
    @inline(__always)
    private mutating func reward(
        _ at: Int32, _ node: Node, _ label: Int32, _ child: Int32?, _ language: LanguageScore
    ) -> Grammar? {
        guard language.bytes else {
            return Int(label) == language.space ? grammar(at, language) : nil
        }
        guard node.character.adding(UInt8(truncatingIfNeeded: label + 1)).isWhole else { return nil }
        if let child { return grammar(child, language) }
        return language.score(language.words(of: tree, at, Int(label)), &reading)
    }

    /// The scorer's value for a prefix's last words, kept for the next call.
    private mutating func grammar(_ at: Int32, _ language: LanguageScore) -> Grammar {
        let known = tree.nodes[Int(at)].grammar
        guard known.probability.isNaN else { return known }
        let found = language.score(language.words(of: tree, at, nil), &reading)
        tree.nodes[Int(at)].grammar = found
        return found
    }
}
