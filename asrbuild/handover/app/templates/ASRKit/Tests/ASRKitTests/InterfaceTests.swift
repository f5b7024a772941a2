import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

final class InterfaceTests: XCTestCase {
    private func interface(_ manifest: ASRManifest) -> ModelInterface {
        let inputs = manifest.model.inputs.map {
            ($0.name, ModelInterface.Input(shape: $0.shape.map(\.default), dtype: $0.dtype))
        }
        let kept = manifest.state.filter { $0.kind == .stateful }.map(\.input)
        return ModelInterface(
            inputs: Dictionary(uniqueKeysWithValues: inputs),
            outputs: Set(manifest.model.outputs.map(\.name)), states: Set(kept),
            metadata: [
                "asrbuild.blank_index": "28", "asrbuild.log_floor": "1e-12", "author": "nobody",
            ]
        )
    }

    /// A manifest of another model, or a model of another manifest, is refused before any call.
    func testAnotherModelThanTheManifestsIsRefused() throws {
        var manifest = try Artifact().manifest
        (manifest.decoder.blankIndex, manifest.features.logFloor) = (28, 1e-12)
        let right = interface(manifest)
        try manifest.check(right)
        let first = try XCTUnwrap(manifest.model.inputs.first).name
        let changes: [(String, (inout ModelInterface) -> Void)] = [
            ("inputs", { $0.inputs[first] = nil }),
            ("inputs", { $0.inputs["more"] = .init(shape: [], dtype: .float32) }),
            ("shape of \(first)", { $0.inputs[first]?.shape[1] += 1 }),
            ("dtype of \(first)", { $0.inputs[first]?.dtype = .float16 }),
            ("no output", { $0.outputs = [] }),
            ("states", { $0.states.insert("more") }),
            ("blank_index is 7", { $0.metadata["asrbuild.blank_index"] = "7" }),
            ("log_floor is 1e-10", { $0.metadata["asrbuild.log_floor"] = "1e-10" }),
            ("alphabet", { $0.metadata["asrbuild.alphabet"] = "[\"a\"]" }),
            ("alphabet", { $0.metadata["asrbuild.alphabet"] = "?" }),
        ]
        for (message, change) in changes {
            var file = right
            change(&file)
            XCTAssertThrowsError(try manifest.check(file), message) { error in
                guard case ASRError.contradiction(let text)? = error as? ASRError else {
                    return XCTFail("\(error)")
                }
                XCTAssertTrue(text.contains(message), "\(text), not \(message)")
            }
        }
        // A neural network declares no shapes of some arrays.
        var undeclared = right
        undeclared.inputs[first]?.shape = []
        try manifest.check(undeclared)
    }
}
