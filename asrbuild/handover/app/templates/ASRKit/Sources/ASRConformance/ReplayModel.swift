import ASRCore

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
        for described in manifest.model.inputs {
            guard let given = inputs[described.name] else { continue }
            switch described.meaning {
            case .features:
                let windows = try vectors.rows(recording, "windows")
                var expected = windows[call.first..<call.first + call.steps].values
                expected += [Float](repeating: 0, count: (call.size - call.steps) * windows.width)
                try expect(given.shape[1] == call.size, "the size")
                let limit = try vectors.limit("windows", "max_abs_error")
                try expect(largestError(given.values, expected) <= limit, described.name)
            case .stepCount:
                try expect(given.values == [Float(call.steps)], described.name)
            case .state:
                // The state came from the recording, so it must come back to the last bit.
                try expect(try given == value(described.name), described.name)
            default:
                try expect(false, described.name)
            }
        }
        var outputs: [String: ASRTensor] = [:]
        for described in manifest.model.outputs {
            if described.meaning == .probabilities {
                let rows = try vectors.rows(recording, "probabilities")
                var values = rows[call.first..<call.first + call.steps].values
                // NaN in the rows past the last real step shows a runtime that keeps them.
                values += [Float](repeating: .nan, count: (call.size - call.steps) * rows.width)
                outputs[described.name] = ASRTensor(shape: [call.size, 1, rows.width], values: values)
            } else if described.meaning == .state {
                outputs[described.name] = try value(described.name)
            }
        }
        made += 1
        return outputs
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
