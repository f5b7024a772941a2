import Foundation

/// Greedy CTC decoding: the likeliest class of each step, repeats merged, blanks dropped.
struct GreedySearch: Sendable {
    private(set) var labels: [Int] = []
    private var steps: [Int] = []
    private var probabilities: [Float] = []
    private var score = 0.0
    private let blank: Int?
    private var last: Int?
    private var step = 0

    init(_ blank: Int?) {
        self.blank = blank
        last = blank
    }

    mutating func feed(_ row: ArraySlice<Float>) {
        // The first of equal classes, as in asrbuild's decoders.
        var best = row.startIndex
        for index in row.indices where row[index] > row[best] { best = index }
        let label = best - row.startIndex
        if label != blank, label != last {
            labels.append(label)
            steps.append(step)
            probabilities.append(row[best])
        }
        last = label
        step += 1
        score += log(max(Double(row[best]), 1e-30))
    }

    var path: Path {
        Path(labels: labels, steps: steps, probabilities: probabilities, score: score)
    }
}
