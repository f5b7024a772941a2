/// The prefixes of a beam search as a tree of labels, and the times of their labels.
///
/// The part that all prefixes share leaves the tree. A node that no prefix of the beam is at or above
/// never comes back: where it has one child, walks over the tree pass it by, so that a step of a long
/// utterance takes no longer than the first. It stays for the labels of its descendants.
struct PrefixTree: Sendable {
    var nodes: [Node]
    var times = TimeTree()
    private(set) var root: Int32 = 0
    /// The labels of the root and of all before it.
    private(set) var settled: [Int] = []
    private var unused: [Int32] = []

    init() {
        var first = Node(parent: -1, label: .max)
        first.endsBlank = 0
        first.score = 0
        first.time = TimeTree.start
        first.position = 0
        nodes = [first]
    }

    /// Whether a node is the prefix of no labels.
    func isStart(_ node: Int32) -> Bool { node == root && settled.isEmpty }

    /// The labels from the root down to a node.
    func tail(_ node: Int32) -> [Int] {
        var labels: [Int] = []
        var at = node
        while at != root {
            labels.append(Int(nodes[Int(at)].label))
            at = nodes[Int(at)].parent
        }
        return labels.reversed()
    }

    /// The first node of a walk from the leaves below a node up to it.
    @inline(__always)
    func lowest(_ node: Int32) -> Int32 {
        var at = node
        while nodes[Int(at)].firstChild >= 0 { at = nodes[Int(at)].firstChild }
        return at
    }

    /// The node after another one on the walk from the leaves to the root, which is the last.
    @inline(__always)
    func following(_ node: Int32) -> Int32 {
        let next = nodes[Int(node)].next
        return next >= 0 ? lowest(next) : nodes[Int(node)].above
    }

    /// Adds a node to the tree, behind its parent's other children.
    mutating func grow(_ new: Node) -> Int32 {
        var node = new
        node.above = node.parent
        let parent = Int(node.parent)
        node.previous = nodes[parent].lastChild
        let at: Int32
        if let place = unused.popLast() {
            nodes[Int(place)] = node
            at = place
        } else {
            at = Int32(nodes.count)
            nodes.append(node)
        }
        if node.previous >= 0 {
            nodes[Int(node.previous)].next = at
        } else {
            nodes[parent].firstChild = at
        }
        nodes[parent].lastChild = at
        return at
    }

    /// Takes a node out of the tree, and its ancestors, where nothing needs them.
    mutating func prune(_ start: Int32) {
        var at = start
        while at != root, nodes[Int(at)].position < 0, nodes[Int(at)].firstChild < 0, nodes[Int(at)].above >= 0 {
            let node = nodes[Int(at)]
            replace(at, by: node.previous, node.next)
            drop(at)
            dropPassed(from: node.parent, to: node.above)
            at = node.above
        }
    }

    /// Takes what no prefix can come back to out of the walks.
    mutating func settle() {
        settleRoot()
        guard nodes[Int(root)].position < 0 else { return }
        // The nodes that no prefix of the beam is at or above, parents before their children.
        var at = nodes[Int(root)].firstChild
        while at >= 0, at != root {
            let node = nodes[Int(at)]
            if node.position < 0, node.firstChild >= 0 {
                if node.firstChild == node.lastChild { passBy(at) }
                at = node.firstChild
                continue
            }
            // On to the next one beside it, or beside an ancestor.
            var up = at
            while up != root, nodes[Int(up)].next < 0 { up = nodes[Int(up)].above }
            at = up == root ? root : nodes[Int(up)].next
        }
    }

    /// Moves the root down to the node that all prefixes go through.
    private mutating func settleRoot() {
        while nodes[Int(root)].position < 0, nodes[Int(root)].firstChild >= 0,
            nodes[Int(root)].firstChild == nodes[Int(root)].lastChild
        {
            let next = nodes[Int(root)].firstChild
            settled += tail(next)
            dropPassed(from: nodes[Int(next)].parent, to: root)
            drop(root)
            root = next
            nodes[Int(root)].parent = -1
            nodes[Int(root)].above = -1
        }
    }

    /// Puts the only child of a node in its place in the walks.
    private mutating func passBy(_ at: Int32) {
        let node = nodes[Int(at)]
        let child = node.firstChild
        nodes[Int(child)].above = node.above
        nodes[Int(child)].previous = node.previous
        nodes[Int(child)].next = node.next
        replace(at, by: child, child)
        times.release(node.time)
        nodes[Int(at)].time = TimeTree.never
    }

    /// Makes the neighbours of a node, and the node above it, lead to others in its place.
    private mutating func replace(_ at: Int32, by previous: Int32, _ next: Int32) {
        let node = nodes[Int(at)]
        if node.previous >= 0 {
            nodes[Int(node.previous)].next = next
        } else {
            nodes[Int(node.above)].firstChild = next
        }
        if node.next >= 0 {
            nodes[Int(node.next)].previous = previous
        } else {
            nodes[Int(node.above)].lastChild = previous
        }
    }

    /// Drops the nodes that walks pass by, from one up to, but without, another.
    private mutating func dropPassed(from node: Int32, to above: Int32) {
        var at = node
        while at != above {
            let parent = nodes[Int(at)].parent
            drop(at)
            at = parent
        }
    }

    private mutating func drop(_ at: Int32) {
        times.release(nodes[Int(at)].time)
        // It has no parent: it is not taken out again.
        nodes[Int(at)] = Node(parent: -1, label: .max)
        unused.append(at)
    }
}

/// One prefix: the label that it adds to its parent's.
struct Node: Sendable {
    var parent: Int32
    var label: UInt32
    /// The node above it in a walk over the tree; -1: none. Walks pass nodes by.
    var above: Int32 = -1
    var firstChild: Int32 = -1
    var lastChild: Int32 = -1
    var previous: Int32 = -1
    var next: Int32 = -1
    /// Its place in the beam, or -1: it is there for its descendants.
    var position: Int32 = -1
    /// Its place in the scorer's words.
    var state: Int32 = 0
    /// The place of its labels' steps in the tree of times.
    var time: Int32 = TimeTree.never
    /// The log probability of its alignments that end in a blank, of the others, and of all.
    var endsBlank = -Float.greatestFiniteMagnitude
    var endsLabel = -Float.greatestFiniteMagnitude
    var score = -Float.greatestFiniteMagnitude
    /// In UTF-8 mode its last character.
    var character = Character()
    /// The scorer's value for its last words; NaN before it is computed.
    var grammar = Grammar(probability: .nan, boost: 0)

    init(parent: Int32, label: UInt32) {
        self.parent = parent
        self.label = label
    }

    /// A character in UTF-8: its first byte, and how many of its bytes are there; 0: no first one.
    struct Character: Sendable {
        var lead: UInt8 = 0
        var bytes: UInt8 = 0

        /// The character of a prefix by one more byte.
        func adding(_ byte: UInt8) -> Character {
            guard byte & 0b1100_0000 == 0b1000_0000 else { return Character(lead: byte, bytes: 1) }
            return bytes == 0 ? self : Character(lead: lead, bytes: min(bytes + 1, 5))
        }

        /// Whether all bytes are there.
        var isWhole: Bool {
            switch lead {
            case 0b1111_0000...0b1111_0111: return bytes == 4
            case 0b1110_0000...0b1110_1111: return bytes == 3
            case 0b1100_0000...0b1101_1111: return bytes == 2
            case 0...0b0111_1111: return bytes == 1
            default: return false
            }
        }
    }
}

/// A walk over the labels of a prefix, from the last to the first.
struct LabelWalk {
    private var node: Int32
    private var before: Int

    init(_ tree: PrefixTree, from node: Int32) {
        self.node = node
        before = tree.settled.count
    }

    /// The label at this place, and on to the one before; nil past the first.
    @inline(__always)
    mutating func next(_ tree: PrefixTree) -> Int? {
        if node != tree.root {
            let label = tree.nodes[Int(node)].label
            node = tree.nodes[Int(node)].parent
            return Int(label)
        }
        guard before > 0 else { return nil }
        before -= 1
        return tree.settled[before]
    }
}
