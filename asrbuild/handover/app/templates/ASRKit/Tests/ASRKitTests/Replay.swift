import XCTest

@testable import ASRKit

/// A stand-in for the package: checks its inputs against the conformance kit, call by call, and
/// returns the outputs recorded there.
/// Unchecked: a test makes one call after another.
final class Replay: AcousticModel, @unchecked Sendable {
    private let artifact: Artifact
    private let recording: Recording
    private(set) var made = 0

    /// The state, where the manifest says that the package keeps it.
    final class Kept: ModelState {}

    init(_ artifact: Artifact, _ recording: Recording) {
        self.artifact = artifact
        self.recording = recording
    }

    func makeState() throws -> (any ModelState)? { Kept() }

    func predict(
        _ inputs: [String: Tensor], state: (any ModelState)?
    ) async throws -> [String: Tensor] {
        let manifest = artifact.manifest
        guard made < recording.calls.count else {
            throw Unreadable(why: "call \(made) of \(recording.name) is one too many")
        }
        let call = recording.calls[made]
        XCTAssertEqual(Set(inputs.keys), Set(manifest.model.inputs.map(\.name)))
        XCTAssertEqual(state != nil, manifest.state.contains { $0.kind == .stateful })
        for described in manifest.model.inputs {
            let given = try XCTUnwrap(inputs[described.name])
            switch described.meaning {
            case .features:
                let windows = try artifact.rows(recording, "windows")
                var expected = windows[call.first..<call.first + call.steps].values
                expected += [Float](repeating: 0, count: (call.size - call.steps) * windows.width)
                XCTAssertEqual(given.shape[1], call.size)
                let limit = try artifact.limit("windows", "max_abs_error")
                XCTAssertLessThanOrEqual(largestError(given.values, expected), limit)
            case .stepCount:
                XCTAssertEqual(given.values, [Float(call.steps)])
            case .state:
                // The state came from the kit, so it must come back to the last bit.
                XCTAssertEqual(given, try value(described.name), "\(described.name), call \(made)")
            default:
                XCTFail("the kit has nothing for \(described.name)")
            }
        }
        var outputs: [String: Tensor] = [:]
        for described in manifest.model.outputs {
            if described.meaning == .probabilities {
                let rows = try artifact.rows(recording, "probabilities")
                var values = rows[call.first..<call.first + call.steps].values
                // NaN in the rows past the last real step shows a runtime that keeps them.
                values += [Float](repeating: .nan, count: (call.size - call.steps) * rows.width)
                outputs[described.name] = Tensor(shape: [call.size, 1, rows.width], values: values)
            } else if described.meaning == .state {
                outputs[described.name] = try value(described.name)
            }
        }
        made += 1
        return outputs
    }

    /// The state in the kit for this call.
    private func value(_ name: String) throws -> Tensor {
        let array = try artifact.array(recording, name)
        let shape = Array(array.shape.dropFirst())
        let size = shape.reduce(1, *)
        return Tensor(shape: shape, values: Array(array.values[made * size..<(made + 1) * size]))
    }
}
