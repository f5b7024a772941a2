/// A tensor, its values in row-major order.
public struct Tensor: Equatable, Sendable {
    public let shape: [Int]
    public let values: [Float]

    public init(shape: [Int], values: [Float]) {
        precondition(shape.reduce(1, *) == values.count, "the values must fill the shape")
        self.shape = shape
        self.values = values
    }

    static func zeros(_ shape: [Int]) -> Tensor {
        Tensor(shape: shape, values: [Float](repeating: 0, count: shape.reduce(1, *)))
    }
}

/// Runs the package: `CoreMLModel`, or a stand-in in a test.
public protocol AcousticModel: AnyObject {
    /// A state of zeros for one utterance; nil where the app carries the state itself.
    func makeState() throws -> AnyObject?

    /// Runs the package once; inputs and outputs by name, as in the manifest.
    func predict(_ inputs: [String: Tensor], state: AnyObject?) throws -> [String: Tensor]
}

/// One call of the package: its real steps, and its size with padding.
public struct Call: Equatable, Sendable {
    public let first: Int
    public let steps: Int
    public let size: Int
}

/// One utterance, fed to the package call by call as the manifest specifies.
///
/// The state is passed from one call to the next. The last, short call is padded with zeros to a size
/// that the package takes, `input_lengths` says how many steps are real, and only their rows are
/// kept, so no step is lost.
public final class AcousticStream {
    /// The calls made so far.
    public private(set) var calls: [Call] = []

    private let model: any AcousticModel
    private let manifest: ASRManifest
    private let features: ASRManifest.Tensor
    private let probabilities: ASRManifest.Tensor
    private var waiting: Rows
    /// Input name -> state of the next call.
    private var state: [String: Tensor] = [:]
    private let kept: AnyObject?

    public init(model: any AcousticModel, manifest: ASRManifest) throws {
        self.model = model
        self.manifest = manifest
        features = try only(manifest.model.inputs, .features)
        probabilities = try only(manifest.model.outputs, .probabilities)
        guard features.shape.count == 4, let last = probabilities.shape.last, last.default > 0 else {
            throw ASRError.contradiction("the shapes of \(features.name) and \(probabilities.name)")
        }
        waiting = Rows(width: features.shape[2].default * features.shape[3].default)
        for pair in manifest.state where pair.kind == .explicit {
            state[pair.input] = Tensor.zeros(pair.shape)
        }
        kept = manifest.state.contains { $0.kind == .stateful } ? try model.makeState() : nil
        if let chunk = manifest.streaming.stepsPerChunk, try callSize(chunk) != chunk {
            throw ASRError.contradiction("the package takes no call of \(chunk) steps")
        }
    }

    /// Takes context windows; returns the probabilities of the calls that they filled.
    public func feed(_ windows: Rows) throws -> Rows {
        waiting.append(windows)
        var rows = Rows(width: classes)
        guard let size = manifest.streaming.stepsPerChunk else { return rows }
        // A whole utterance: the last full chunk may be part of one larger call.
        let least = manifest.streaming.mode == .chunked ? size : size + 1
        var taken = 0
        while waiting.count - taken >= least {
            rows.append(try call(waiting[taken..<taken + size], size: size))
            taken += size
        }
        waiting.removeFirst(taken)
        return rows
    }

    /// Runs the steps that did not fill a call; returns their probabilities.
    public func finish() throws -> Rows {
        let rest = waiting
        waiting = Rows(width: rest.width)
        guard rest.count > 0 else { return Rows(width: classes) }
        return try call(rest, size: try callSize(rest.count))
    }

    /// The state after the last call, by output name. What the package keeps to itself is not in
    /// it, nor what the manifest says is only valid after a full call.
    public var carried: [String: Tensor] {
        let padded = calls.last.map { $0.steps < $0.size } ?? false
        var found: [String: Tensor] = [:]
        for pair in manifest.state where pair.kind == .explicit {
            if !padded || pair.valid == .always { found[pair.output] = state[pair.input] }
        }
        return found
    }

    private var classes: Int { probabilities.shape[probabilities.shape.count - 1].default }

    /// The smallest size of a call that so many steps fit in.
    private func callSize(_ steps: Int) throws -> Int {
        let axis = features.shape[1]
        let sizes = axis.enumerated ?? [max(steps, axis.min)]
        guard let size = sizes.filter({ $0 >= steps }).min(), size <= axis.max ?? Int.max else {
            throw ASRError.tooManySteps(steps: steps, limit: sizes.max().map { min($0, axis.max ?? $0) } ?? 0)
        }
        return size
    }

    private func call(_ windows: Rows, size: Int) throws -> Rows {
        let real = windows.count
        var values = windows.values
        values += [Float](repeating: 0, count: (size - real) * windows.width)
        var inputs = state
        inputs[features.name] = Tensor(
            shape: [1, size, features.shape[2].default, features.shape[3].default], values: values
        )
        for tensor in manifest.model.inputs where tensor.meaning == .stepCount {
            let shape = tensor.shape.map(\.default)
            let count = shape.reduce(1, *)
            inputs[tensor.name] = Tensor(
                shape: shape, values: [Float](repeating: Float(real), count: count)
            )
        }
        let outputs = try model.predict(inputs, state: kept)
        for pair in manifest.state where pair.kind == .explicit {
            let given = try output(pair.output, of: outputs, count: pair.shape.reduce(1, *))
            state[pair.input] = Tensor(shape: pair.shape, values: given)
        }
        let rows = try output(probabilities.name, of: outputs, count: size * classes)
        calls.append(Call(first: calls.last.map { $0.first + $0.steps } ?? 0, steps: real, size: size))
        return Rows(width: classes, values: Array(rows[0..<real * classes]))
    }

    private func output(_ name: String, of outputs: [String: Tensor], count: Int) throws -> [Float] {
        guard let found = outputs[name] else { throw ASRError.badOutput("no \(name)") }
        guard found.values.count == count else {
            throw ASRError.badOutput("\(name) of shape \(found.shape), not of \(count) values")
        }
        return found.values
    }
}

private func only(
    _ tensors: [ASRManifest.Tensor], _ meaning: ASRManifest.Tensor.Meaning
) throws -> ASRManifest.Tensor {
    let found = tensors.filter { $0.meaning == meaning }
    guard found.count == 1, let tensor = found.first else {
        throw ASRError.contradiction("\(found.count) tensors mean \(meaning.rawValue)")
    }
    return tensor
}
