/// The steps at which labels of prefixes begin, with probabilities: lists with shared beginnings.
///
/// References to each list are counted; a list without references is freed.
struct TimeTree: Sendable {
    /// The list of no labels.
    static let start: Int32 = -1
    /// No list: the prefix has no probability at all.
    static let never: Int32 = -2

    struct Moment: Sendable {
        var before: Int32
        var holders: Int32
        var step: Int32
        var probability: Float
    }

    private var moments: [Moment] = []
    private var free: [Int32] = []

    /// A list that goes on from another one; the caller holds it.
    mutating func add(_ before: Int32, _ step: Int, _ probability: Float) -> Int32 {
        if before >= 0 { moments[Int(before)].holders += 1 }
        let moment = Moment(
            before: before, holders: 1, step: Int32(truncatingIfNeeded: step), probability: probability)
        guard let place = free.popLast() else {
            moments.append(moment)
            return Int32(moments.count - 1)
        }
        moments[Int(place)] = moment
        return place
    }

    /// Lets a list go.
    mutating func release(_ list: Int32) {
        var at = list
        while at >= 0 {
            moments[Int(at)].holders -= 1
            guard moments[Int(at)].holders == 0 else { return }
            free.append(at)
            at = moments[Int(at)].before
        }
    }

    /// A list from its beginning.
    func path(_ list: Int32) -> [Moment] {
        var found: [Moment] = []
        var at = list
        while at >= 0 {
            found.append(moments[Int(at)])
            at = moments[Int(at)].before
        }
        return found.reversed()
    }
}
