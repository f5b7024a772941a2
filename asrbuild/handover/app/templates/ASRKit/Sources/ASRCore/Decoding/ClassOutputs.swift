import Foundation

extension ASRRows {
    /// The rows as probabilities, whatever the network was trained to give.
    ///
    /// A single number, as a detector of voice gives, is a class of its own against all else: rows of
    /// one value become rows of two.
    ///
    /// - Parameter meaning: log probabilities are natural logarithms; logits go through a softmax.
    /// - Throws: `ASRError.badOutput` for log probabilities whose rows do not add up to 1.
    public func probabilities(from meaning: ASRManifest.Tensor.Meaning) throws -> ASRRows {
        guard [.probabilities, .logits, .logProbabilities].contains(meaning) else {
            throw ASRError.unsupported("rows of \(meaning.rawValue) as probabilities")
        }
        guard width > 1 else { return againstAllElse(meaning) }
        guard meaning != .probabilities else { return self }
        var made: [Float] = []
        made.reserveCapacity(values.count)
        for row in 0..<count {
            let values = self[row].map(Double.init)
            let top = meaning == .logits ? values.max() ?? 0 : 0
            let raised = values.map { exp(min($0 - top, 80)) }
            let sum = raised.reduce(0, +)
            // Those of a network in half precision add up to within a few per mille; logits stray far.
            guard meaning == .logits || abs(sum - 1) <= 0.02 else {
                throw ASRError.badOutput("log probabilities whose exponentials do not add up to 1")
            }
            made += raised.map { Float(meaning == .logits ? $0 / sum : $0) }
        }
        return ASRRows(width: width, values: made)
    }

    private func againstAllElse(_ meaning: ASRManifest.Tensor.Meaning) -> ASRRows {
        let made = values.flatMap { value -> [Float] in
            let raised = meaning == .probabilities ? Double(value) : exp(min(Double(value), 80))
            let one = meaning == .logits ? raised / (1 + raised) : raised
            return [Float(one), Float(1 - one)]
        }
        return ASRRows(width: 2, values: made)
    }

    /// Refuses rows that are not finite probabilities which add up to 1 within 1 %.
    func checkProbabilities(classes: Int) throws {
        guard width == classes else {
            throw ASRError.contradiction("\(width) classes, labels for \(classes)")
        }
        for row in 0..<count {
            var sum = 0.0
            var least: Float = 0
            for value in self[row] {
                sum += Double(value)
                least = min(least, value)
            }
            // A value that is not a number makes the sum none.
            guard abs(sum - 1) <= 0.01, least >= 0 else {
                throw ASRError.badOutput("a row that is not of probabilities")
            }
        }
    }
}
