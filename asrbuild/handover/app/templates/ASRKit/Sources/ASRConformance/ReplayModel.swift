import ASRCore
import Foundation

/// Answers for a package with the recorded outputs of one recording, for previews and tests.
///
/// It compares its inputs with the recorded ones, call by call, and throws `ASRError.contradiction`
/// where they differ.
public actor ASRReplayModel: ASRAcousticModel {
    private let manifest: ASRManifest
    private let vectors: ASRVectors
    private let recording: ASRVectors.Recording
    /// The calls made so far.
    public private(set) var made = 0
    /// The package's inputs for the recording, read at the first call.
    private var steps: ASRRows?

    /// The state, where the manifest says that the package keeps it.
    private final class Kept: ASRModelState {}

    /// A model that says what the vectors have for one recording.
    public init(
        _ manifest: ASRManifest, _ vectors: ASRVectors, _ recording: ASRVectors.Recording
    ) {
        self.manifest = manifest
        self.vectors = vectors
        self.recording = recording
    }

    /// A state, where the manifest asks for one.
    public nonisolated func makeState() throws -> (any ASRModelState)? { Kept() }

    /// Compares the inputs of the next call, and returns its recorded outputs.
    public func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        guard made < recording.calls.count else {
            throw ASRError.contradiction("call \(made) of \(recording.name) is one too many")
        }
        let call = recording.calls[made].call
        try expect(Set(inputs.keys) == Set(manifest.model.inputs.map(\.name)), "the inputs")
        try expect((state != nil) == manifest.state.contains { $0.kind == .stateful }, "the state")
        let fed = try Laid.fed(manifest)
        let steps = try self.steps ?? vectors.fed(recording, manifest)
        self.steps = steps
        for described in manifest.model.inputs {
            guard let given = inputs[described.name] else { continue }
            switch described.meaning {
            case .features, .samples:
                let expected = fed.lay(Self.steps(steps, of: call), call.size)
                try expect(given.shape == fed.shape(call.size), "the size")
                let limit = try vectors.fedStep.map { try vectors.limit($0, "max_abs_error") } ?? 0
                try expect(largestError(given.values, expected) <= limit, described.name)
            case .stepCount:
                let count = described.shape.reduce(1) { $0 * $1.default }
                let expected = [Float](repeating: Float(call.steps), count: count)
                try expect(given.values == expected, described.name)
            case .stepRange:
                let end = min(steps.count - call.first, call.size)
                try expect(given.values == [Float(max(0, -call.first)), Float(end)], described.name)
            case .state:
                // The state came from the recording, so it must come back to the last bit.
                try expect(try given.values == value(described.name).values, described.name)
            default:
                try expect(false, described.name)
            }
        }
        var outputs: [String: ASRTensor] = [:]
        for described in manifest.model.outputs {
            if described.meaning == .state {
                outputs[described.name] = try value(described.name)
            }
        }
        let decoded = try Laid.decoded(manifest)
        outputs[decoded.name] = try rows(recording.calls[made], decoded)
        made += 1
        return outputs
    }

    /// The steps of a call: zeros before the recording, past its end, and past the real steps.
    private static func steps(_ steps: ASRRows, of call: ASRCall) -> [Float] {
        (call.first..<call.first + call.size).flatMap { step -> [Float] in
            let real = step >= 0 && step < min(call.first + call.steps, steps.count)
            return real ? Array(steps[step]) : [Float](repeating: 0, count: steps.width)
        }
    }

    /// The rows of a call as the package gives them.
    ///
    /// NaN in every row that the call gives beside those of the vectors shows a runtime that keeps one
    /// too many.
    private func rows(_ recorded: ASRVectors.RecordedCall, _ decoded: Laid) throws -> ASRTensor {
        let (call, count) = (recorded.call, RowCount(manifest))
        let probabilities = try vectors.rows(recording, "probabilities")
        // A package that trims its context gives no rows before those that are kept.
        let before = manifest.context?.trimmed == true ? 0 : recorded.rows.lowerBound - call.first / count.steps
        let after = count.of(call.size) - before - recorded.rows.count
        guard before >= 0, after >= 0, probabilities.width == decoded.classes else {
            throw ASRError.contradiction("the rows of call \(made) of \(recording.name)")
        }
        var values = [Float](repeating: .nan, count: before * decoded.width)
        for row in recorded.rows {
            let given = probabilities[row].prefix(decoded.width)
            values += decoded.meaning == .probabilities ? given : given.map { Self.inverse($0, decoded) }[...]
        }
        values += [Float](repeating: .nan, count: after * decoded.width)
        let size = count.of(call.size)
        return ASRTensor(shape: decoded.shape(size), values: decoded.lay(values, size))
    }

    /// The output for a probability: its natural logarithm, or its logit.
    private static func inverse(_ probability: Float, _ decoded: Laid) -> Float {
        let value = max(Double(probability), 1e-37)
        let single = decoded.width == 1 && decoded.meaning == .logits
        return Float(single ? log(value / max(1 - value, 1e-37)) : log(value))
    }

    private func expect(_ right: Bool, _ what: String) throws {
        guard right else {
            throw ASRError.contradiction("\(what) of call \(made) of \(recording.name)")
        }
    }

    /// The recorded state of this call.
    private func value(_ name: String) throws -> ASRTensor {
        let array = try vectors.array(recording, name)
        let shape = Array(array.shape.dropFirst())
        let size = shape.reduce(1, *)
        return ASRTensor(shape: shape, values: Array(array.values[made * size..<(made + 1) * size]))
    }
}
