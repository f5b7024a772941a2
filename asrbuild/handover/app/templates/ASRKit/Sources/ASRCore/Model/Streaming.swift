/// One call of the package: its real steps, and its size with padding.
public struct ASRCall: Equatable, Sendable {
    public let first: Int
    public let steps: Int
    public let size: Int

    public init(first: Int, steps: Int, size: Int) {
        self.first = first
        self.steps = steps
        self.size = size
    }
}

/// One utterance, fed to the package call by call as the manifest specifies.
///
/// The state is passed from one call to the next. The last, short call is padded with zeros to a size
/// that the package takes, `input_lengths` says how many steps are real, and only their rows are
/// kept, so no step is lost.
///
/// A call that fails changes nothing: its steps wait, and the next `feed` or `finish` runs them
/// again. Only a package that keeps its state itself cannot be asked twice: after a failed call its
/// utterance throws `ASRError.stateLost`.
public struct ASRAcousticStream: Sendable {
    /// The calls made so far.
    public private(set) var calls: [ASRCall] = []

    private var model: any ASRAcousticModel
    private let manifest: ASRManifest
    private let features: ASRManifest.Tensor
    private let probabilities: ASRManifest.Tensor
    /// Context windows, of which the first `taken` have been run.
    private var waiting: ASRRows
    private var taken = 0
    /// Probabilities that the caller has not taken yet.
    private var ready: ASRRows
    /// Input name -> state of the next call.
    private var state: [String: ASRTensor] = [:]
    private let kept: (any ASRModelState)?
    private var lost = false

    public init(model: any ASRAcousticModel, manifest: ASRManifest) throws {
        self.model = model
        self.manifest = manifest
        features = try only(manifest.model.inputs, .features)
        probabilities = try only(manifest.model.outputs, .probabilities)
        guard features.shape.count == 4, let last = probabilities.shape.last, last.default > 0 else {
            throw ASRError.contradiction("the shapes of \(features.name) and \(probabilities.name)")
        }
        waiting = ASRRows(width: features.shape[2].default * features.shape[3].default)
        ready = ASRRows(width: last.default)
        for pair in manifest.state where pair.kind == .explicit {
            state[pair.input] = ASRTensor.zeros(pair.shape)
        }
        kept = manifest.state.contains { $0.kind == .stateful } ? try model.makeState() : nil
        if let chunk = manifest.streaming.stepsPerChunk, try callSize(chunk) != chunk {
            throw ASRError.contradiction("the package takes no call of \(chunk) steps")
        }
    }

    /// Takes context windows; returns the probabilities of the calls that they filled.
    public mutating func feed(_ windows: ASRRows) async throws -> ASRRows {
        append(windows)
        while let request = try next(ending: false) { try await run(request) }
        return take()
    }

    /// Runs the steps that did not fill a call; returns their probabilities.
    public mutating func finish() async throws -> ASRRows {
        while let request = try next(ending: true) { try await run(request) }
        return take()
    }

    private mutating func run(_ request: Request) async throws {
        let answer: Answer
        do { answer = try await self.answer(request) } catch {
            failed()
            throw error
        }
        accept(answer, to: request)
    }

    /// The state after the last call, by output name. What the package keeps to itself is not in
    /// it, nor what the manifest says is only valid after a full call.
    public var carried: [String: ASRTensor] {
        let padded = calls.last.map { $0.steps < $0.size } ?? false
        var found: [String: ASRTensor] = [:]
        for pair in manifest.state where pair.kind == .explicit {
            if !padded || pair.valid == .always { found[pair.output] = state[pair.input] }
        }
        return found
    }

    private var classes: Int { ready.width }

    /// The smallest size of a call that so many steps fit in.
    private func callSize(_ steps: Int) throws -> Int {
        let axis = features.shape[1]
        let sizes = axis.enumerated ?? [max(steps, axis.min)]
        guard let size = sizes.filter({ $0 >= steps }).min(), size <= axis.max ?? Int.max else {
            throw ASRError.tooManySteps(steps: steps, limit: sizes.max().map { min($0, axis.max ?? $0) } ?? 0)
        }
        return size
    }
}

// One call in three parts, so that an actor can wait for the model between two changes of its state.
extension ASRAcousticStream {
    /// The inputs of the next call.
    package struct Request: Sendable {
        let inputs: [String: ASRTensor]
        let steps: Int
        let size: Int
    }

    /// The checked outputs of a call, and the model that gave them.
    package struct Answer: Sendable {
        let rows: ASRRows
        let state: [String: ASRTensor]
        let model: any ASRAcousticModel
    }

    package mutating func append(_ windows: ASRRows) {
        waiting.append(windows)
    }

    /// The probabilities since the last time.
    package mutating func take() -> ASRRows {
        defer { ready = ASRRows(width: classes) }
        return ready
    }

    /// The next call, where the steps that wait fill one; `ending`: also where they do not.
    package func next(ending: Bool) throws -> Request? {
        guard !lost else { throw ASRError.stateLost }
        let count = waiting.count - taken
        // A whole utterance: the last full chunk may be part of one larger call.
        let spare = manifest.streaming.mode == .chunked ? 0 : 1
        if let size = manifest.streaming.stepsPerChunk, count >= size + spare {
            return request(steps: size, size: size)
        }
        guard ending, count > 0 else { return nil }
        return request(steps: count, size: try callSize(count))
    }

    private func request(steps: Int, size: Int) -> Request {
        var values = waiting[taken..<taken + steps].values
        values += [Float](repeating: 0, count: (size - steps) * waiting.width)
        var inputs = state
        inputs[features.name] = ASRTensor(
            shape: [1, size, features.shape[2].default, features.shape[3].default], values: values
        )
        for tensor in manifest.model.inputs where tensor.meaning == .stepCount {
            let shape = tensor.shape.map(\.default)
            let count = shape.reduce(1, *)
            inputs[tensor.name] = ASRTensor(
                shape: shape, values: [Float](repeating: Float(steps), count: count)
            )
        }
        return Request(inputs: inputs, steps: steps, size: size)
    }

    /// Runs the model, and where it fails its fallback.
    package func answer(_ request: Request) async throws -> Answer {
        do {
            return try await answer(request, from: model)
        } catch let error as CancellationError {
            throw error
        } catch {
            // A state that the package keeps may have moved on: the call cannot be made again.
            guard kept == nil, let other = try await model.fallback() else { throw error }
            return try await answer(request, from: other)
        }
    }

    private func answer(_ request: Request, from model: any ASRAcousticModel) async throws -> Answer {
        let outputs = try await model.predict(request.inputs, state: kept)
        var next: [String: ASRTensor] = [:]
        for pair in manifest.state where pair.kind == .explicit {
            let count = pair.shape.reduce(1, *)
            let given = try output(pair.output, of: outputs, count: count, real: count)
            next[pair.input] = ASRTensor(shape: pair.shape, values: given)
        }
        let rows = try output(
            probabilities.name, of: outputs, count: request.size * classes,
            real: request.steps * classes
        )
        return Answer(rows: ASRRows(width: classes, values: rows), state: next, model: model)
    }

    /// The first `real` values of an output; the rest belongs to padding and may be anything.
    private func output(
        _ name: String, of outputs: [String: ASRTensor], count: Int, real: Int
    ) throws -> [Float] {
        guard let found = outputs[name] else { throw ASRError.badOutput("no \(name)") }
        guard found.values.count == count else {
            throw ASRError.badOutput("\(name) of shape \(found.shape), not of \(count) values")
        }
        let values = Array(found.values[0..<real])
        guard values.allSatisfy(\.isFinite) else {
            throw ASRError.badOutput("\(name) with values that are not finite numbers")
        }
        return values
    }

    package mutating func accept(_ answer: Answer, to request: Request) {
        state = answer.state
        model = answer.model
        ready.append(answer.rows)
        let first = calls.last.map { $0.first + $0.steps } ?? 0
        calls.append(ASRCall(first: first, steps: request.steps, size: request.size))
        taken += request.steps
        if 2 * taken >= waiting.count {
            waiting.removeFirst(taken)
            taken = 0
        }
    }

    /// After a call that failed: what the package keeps is then not known.
    package mutating func failed() {
        lost = kept != nil
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
