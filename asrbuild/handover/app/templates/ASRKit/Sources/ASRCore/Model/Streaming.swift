import Foundation

/// One call of the package: its real steps, and its size with padding.
public struct ASRCall: Equatable, Sendable {
    /// The number in the utterance of its first step.
    public let first: Int
    /// Real steps.
    public let steps: Int
    /// Steps with padding.
    public let size: Int

    /// A call.
    public init(first: Int, steps: Int, size: Int) {
        self.first = first
        self.steps = steps
        self.size = size
    }
}

/// One utterance, fed to the package call by call as the manifest specifies.
///
/// Steps are frames of features, or samples. The state is passed from one call to the next. The
/// last, short call is padded with zeros to a size that the package takes, and only the rows of real
/// steps are kept, so no step is lost. Where rows depend on steps around them, a call repeats steps
/// of the call before and looks ahead.
///
/// A call that fails changes nothing: its steps wait, and the next `feed` or `finish` runs them
/// again. Only a package that keeps its state itself cannot be asked twice: after a failed call its
/// utterance throws `ASRError.stateLost`.
public struct ASRAcousticStream: Sendable {
    /// The calls made so far.
    public private(set) var calls: [ASRCall] = []

    private var model: any ASRAcousticModel
    private let manifest: ASRManifest
    private let fed: Laid
    private let decoded: Laid
    private let rows: RowCount
    private let left: Int
    private let right: Int
    private let trimmed: Bool
    /// Steps, of which the first `taken` are done with.
    private var waiting: ASRRows
    private var taken = 0
    /// Of the steps that wait: those whose rows were given already.
    private var seen = 0
    /// The first step of the recording among those that wait, and their end.
    private var begin = 0
    private var end = 0
    private var primed = false
    private var closed = false
    /// Steps of the recording before those that wait; below 0 where zeros stand before it.
    private var passed = 0
    /// Probabilities that the caller has not taken yet.
    private var ready: ASRRows
    /// Input name -> state of the next call.
    private var state: [String: ASRTensor] = [:]
    private let kept: (any ASRModelState)?
    private var lost = false

    /// An utterance whose state starts as the manifest says.
    ///
    /// - Throws: `ASRError.contradiction` where the manifest contradicts itself.
    public init(model: any ASRAcousticModel, manifest: ASRManifest) throws {
        self.model = model
        self.manifest = manifest
        fed = try Laid.fed(manifest)
        decoded = try Laid.decoded(manifest)
        rows = RowCount(manifest)
        let context = manifest.context
        (left, right) = (context?.leftSteps ?? 0, context?.rightSteps ?? 0)
        trimmed = context?.trimmed ?? false
        waiting = ASRRows(width: fed.width)
        ready = ASRRows(width: decoded.classes)
        if trimmed {
            (begin, end) = (left, left)
            passed = -left
            waiting.append(Self.silence(left, width: fed.width))
        }
        for pair in manifest.state where pair.kind == .explicit {
            state[pair.input] = ASRTensor.zeros(pair.shape)
        }
        kept = manifest.state.contains { $0.kind == .stateful } ? try model.makeState() : nil
        if let chunk = manifest.streaming.stepsPerChunk {
            guard try callSize(chunk) == chunk else {
                throw ASRError.contradiction("the package takes no call of \(chunk) steps")
            }
            guard chunk > left + rows.ahead(right) else {
                throw ASRError.contradiction("a call of \(chunk) steps has no new step")
            }
        }
    }

    /// Values of a step.
    public var width: Int { fed.width }

    /// Takes steps; returns the probabilities of the calls that they filled.
    public mutating func feed(_ steps: ASRRows) async throws -> ASRRows {
        try append(steps)
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

    /// The state after the last call, by output name. What the package keeps to itself is not in it.
    public var carried: [String: ASRTensor] {
        var found: [String: ASRTensor] = [:]
        for pair in manifest.state where pair.kind == .explicit {
            found[pair.output] = state[pair.input]
        }
        return found
    }

    private static func silence(_ steps: Int, width: Int) -> ASRRows {
        ASRRows(width: width, values: [Float](repeating: 0, count: steps * width))
    }

    /// The smallest size of a call that so many steps fit in.
    private func callSize(_ steps: Int) throws -> Int {
        let axis = fed.time
        let sizes = axis.enumerated ?? [max(steps, axis.min)]
        guard let size = sizes.filter({ $0 >= steps }).min(), size <= axis.max ?? Int.max else {
            let limit = sizes.max().map { min($0, axis.max ?? $0) } ?? 0
            throw ASRError.tooManySteps(steps: steps, limit: limit)
        }
        return size
    }
}

// One call in three parts, so that an actor can wait for the model between two changes of its state.
extension ASRAcousticStream {
    /// The inputs of the next call, and what becomes of its steps and rows.
    package struct Request: Sendable {
        let inputs: [String: ASRTensor]
        let steps: Int
        let size: Int
        /// The rows that are kept.
        let keep: Range<Int>
        /// Steps that then stop waiting.
        let passed: Int
        let seen: Int
    }

    /// The checked outputs of a call, and the model that gave them.
    package struct Answer: Sendable {
        let rows: ASRRows
        let state: [String: ASRTensor]
        let model: any ASRAcousticModel
    }

    /// The most bytes that may wait for a call, of a package that takes an utterance whole.
    package static let mostBytes = 256 << 20

    package mutating func append(_ steps: ASRRows) throws {
        guard 4 * fed.width * (waiting.count - taken + steps.count) <= Self.mostBytes else {
            let most = Self.mostBytes / (4 * fed.width)
            throw ASRError.tooManySteps(steps: waiting.count - taken + steps.count, limit: most)
        }
        waiting.append(steps)
        end += steps.count
    }

    /// The probabilities since the last time.
    package mutating func take() -> ASRRows {
        defer { ready = ASRRows(width: decoded.classes) }
        return ready
    }

    /// The next call, where the steps that wait fill one; `ending`: also where they do not.
    package mutating func next(ending: Bool) throws -> Request? {
        guard !lost else { throw ASRError.stateLost }
        guard prime() else { return nil }
        if ending, trimmed, !closed, end > begin {
            waiting.append(Self.silence(right, width: fed.width))
            closed = true
        }
        let count = waiting.count - taken
        // A whole utterance: the last full chunk may be part of one larger call.
        let whole = ending || manifest.streaming.mode != .chunked
        if let size = manifest.streaming.stepsPerChunk,
            count > size || (count == size && !whole)
        {
            return full(size)
        }
        guard ending, end > begin else { return nil }
        let keep = seen / rows.steps..<max(seen / rows.steps, rows.of(count))
        guard !keep.isEmpty else { return nil }
        return request(steps: count, size: try callSize(count), keep: keep, passed: count, seen: 0)
    }

    private func full(_ size: Int) -> Request {
        let known = size - rows.ahead(right)
        let first = trimmed ? 0 : seen / rows.steps
        let last = trimmed ? rows.of(size) : min(known / rows.steps, rows.of(size))
        let keep = first..<max(first, last)
        return request(
            steps: size, size: size, keep: keep, passed: max(0, known - left),
            seen: trimmed ? 0 : min(left, known)
        )
    }

    private func request(
        steps: Int, size: Int, keep: Range<Int>, passed: Int, seen: Int
    ) -> Request {
        var values = waiting[taken..<taken + steps].values
        values += [Float](repeating: 0, count: (size - steps) * waiting.width)
        var inputs = state
        inputs[fed.name] = ASRTensor(shape: fed.shape(size), values: fed.lay(values, size))
        for tensor in manifest.model.inputs {
            let shape = tensor.shape.map(\.default)
            if tensor.meaning == .stepCount {
                let count = shape.reduce(1, *)
                inputs[tensor.name] = ASRTensor(
                    shape: shape, values: [Float](repeating: Float(steps), count: count)
                )
            } else if tensor.meaning == .stepRange {
                let range = [Float(begin), Float(min(end, size))]
                inputs[tensor.name] = ASRTensor(shape: [2], values: range)
            }
        }
        return Request(
            inputs: inputs, steps: steps, size: size, keep: keep, passed: passed, seen: seen
        )
    }

    /// Gives states that begin with the first samples theirs; whether they have them.
    private mutating func prime() -> Bool {
        guard !primed else { return true }
        let first = manifest.state.filter { $0.initial == .firstSamples && $0.kind == .explicit }
        let most = first.map { $0.shape.reduce(1, *) }.max() ?? 0
        guard (waiting.count - taken) * waiting.width >= most else { return false }
        let values = waiting[taken..<waiting.count].values
        for pair in first {
            let count = pair.shape.reduce(1, *)
            state[pair.input] = ASRTensor(shape: pair.shape, values: Array(values[0..<count]))
        }
        taken += most
        passed += most
        end -= most
        primed = true
        return true
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

    private func answer(
        _ request: Request, from model: any ASRAcousticModel
    ) async throws -> Answer {
        let outputs = try await model.predict(request.inputs, state: kept)
        var next: [String: ASRTensor] = [:]
        for pair in manifest.state where pair.kind == .explicit {
            let count = pair.shape.reduce(1, *)
            let given = try output(pair.output, of: outputs, count: count)
            try requireFinite(given, pair.output)
            next[pair.input] = ASRTensor(shape: pair.shape, values: given)
        }
        let count = self.rows.of(request.size)
        let given = try output(decoded.name, of: outputs, count: count * decoded.width)
        // What belongs to padding may be anything.
        let kept = ASRRows(width: decoded.width, values: decoded.stand(given, count))[request.keep]
        let rows = try kept.probabilities(from: decoded.meaning)
        try requireFinite(rows.values, decoded.name)
        return Answer(rows: rows, state: next, model: model)
    }

    private func output(
        _ name: String, of outputs: [String: ASRTensor], count: Int
    ) throws -> [Float] {
        guard let found = outputs[name] else { throw ASRError.badOutput("no \(name)") }
        guard found.values.count == count else {
            throw ASRError.badOutput("\(name) of shape \(found.shape), not of \(count) values")
        }
        return found.values
    }

    private func requireFinite(_ values: [Float], _ name: String) throws {
        guard values.allSatisfy(\.isFinite) else {
            throw ASRError.badOutput("\(name) with values that are not finite numbers")
        }
    }

    package mutating func accept(_ answer: Answer, to request: Request) {
        state = answer.state
        model = answer.model
        ready.append(answer.rows)
        calls.append(ASRCall(first: passed, steps: request.steps, size: request.size))
        taken += request.passed
        passed += request.passed
        seen = request.seen
        begin = max(0, begin - request.passed)
        end = max(0, end - request.passed)
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
