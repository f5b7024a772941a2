/// The number of rows of a call; in manifests 1.x one for each step.
package struct RowCount: Sendable {
    /// Steps from one row to the next.
    package let steps: Int
    let add: Int
    let most: Int?
    /// Context before a call that has no rows of its own.
    private let inside: Int

    package init(_ manifest: ASRManifest) {
        steps = max(1, manifest.rows?.steps ?? 1)
        add = manifest.rows?.add ?? 0
        most = manifest.rows?.most
        let context = manifest.context
        inside = context?.trimmed == true ? context?.leftSteps ?? 0 : 0
    }

    /// Rows of a call of so many steps.
    package func of(_ count: Int) -> Int {
        let found = max(0, (count + add) / steps)
        return most.map { min($0, found) } ?? found
    }

    /// Steps at the end of a call whose rows the next call gives.
    func ahead(_ right: Int) -> Int { right + max(0, -add - right - inside) }
}

/// A tensor with one axis of time, at any position: steps in order are laid into it and taken out.
package struct Laid: Sendable {
    package let name: String
    /// The axis of time.
    let time: ASRManifest.Axis
    /// Values of a step.
    package let width: Int
    package let meaning: ASRManifest.Tensor.Meaning
    /// Values of a row of probabilities: a single number is one class of two.
    package var classes: Int { max(width, 2) }
    private let sizes: [Int]
    private let axis: Int
    private let before: Int
    private let after: Int

    /// The input with the steps of a call.
    package static func fed(_ manifest: ASRManifest) throws -> Laid {
        try Laid(only(manifest.model.inputs, [.features, .samples]), otherwise: 1)
    }

    /// The output with its rows, which are decoded.
    package static func decoded(_ manifest: ASRManifest) throws -> Laid {
        try Laid(
            only(manifest.model.outputs, [.probabilities, .logProbabilities, .logits]), otherwise: 0
        )
    }

    private init(_ tensor: ASRManifest.Tensor, otherwise: Int) throws {
        let names: Set = ["steps", "samples", "rows"]
        axis = tensor.shape.firstIndex { names.contains($0.name) } ?? otherwise
        sizes = tensor.shape.map(\.default)
        guard axis < sizes.count else { throw ASRError.contradiction("the shape of \(tensor.name)") }
        (name, meaning, time) = (tensor.name, tensor.meaning, tensor.shape[axis])
        before = sizes[..<axis].reduce(1, *)
        after = sizes[(axis + 1)...].reduce(1, *)
        width = before * after
        guard width > 0 else { throw ASRError.contradiction("the shape of \(tensor.name)") }
    }

    package func shape(_ steps: Int) -> [Int] {
        var shape = sizes
        shape[axis] = steps
        return shape
    }

    /// (steps, before, after) as (before, steps, after).
    package func lay(_ values: [Float], _ steps: Int) -> [Float] {
        moved(values, steps, before)
    }

    /// (before, steps, after) as (steps, before, after).
    package func stand(_ values: [Float], _ steps: Int) -> [Float] {
        moved(values, before, steps)
    }

    private func moved(_ values: [Float], _ outer: Int, _ inner: Int) -> [Float] {
        guard before > 1, values.count == outer * inner * after else { return values }
        var found: [Float] = []
        found.reserveCapacity(values.count)
        for second in 0..<inner {
            for first in 0..<outer {
                let start = (first * inner + second) * after
                found += values[start..<start + after]
            }
        }
        return found
    }
}

private func only(
    _ tensors: [ASRManifest.Tensor], _ meanings: Set<ASRManifest.Tensor.Meaning>
) throws -> ASRManifest.Tensor {
    let found = tensors.filter { meanings.contains($0.meaning) }
    guard found.count == 1, let tensor = found.first else {
        let names = meanings.map(\.rawValue).sorted().joined(separator: " or ")
        throw ASRError.contradiction("\(found.count) tensors mean \(names)")
    }
    return tensor
}
