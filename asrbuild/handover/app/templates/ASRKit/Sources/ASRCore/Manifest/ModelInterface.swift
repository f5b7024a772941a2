import Foundation

/// A model file's own description, for comparison with its manifest.
package struct ModelInterface: Sendable {
    package struct Input: Equatable, Sendable {
        /// The default shape; empty where the file does not declare one.
        package var shape: [Int]
        package var dtype: ASRManifest.Tensor.Dtype

        package init(shape: [Int], dtype: ASRManifest.Tensor.Dtype) {
            self.shape = shape
            self.dtype = dtype
        }
    }

    package var inputs: [String: Input]
    package var outputs: Set<String>
    package var states: Set<String>
    /// The file's own notes, those of asrbuild as `asrbuild.alphabet`.
    package var metadata: [String: String]

    package init(
        inputs: [String: Input], outputs: Set<String>, states: Set<String>, metadata: [String: String]
    ) {
        self.inputs = inputs
        self.outputs = outputs
        self.states = states
        self.metadata = metadata
    }
}

extension ASRManifest {
    /// Refuses a model file that this manifest does not describe: one of the two was replaced.
    ///
    /// - Throws: `ASRError.contradiction`.
    package func check(_ file: ModelInterface) throws {
        try expectSame("inputs", Set(file.inputs.keys), Set(model.inputs.map(\.name)))
        for tensor in model.inputs {
            guard let input = file.inputs[tensor.name] else { continue }
            let shape = tensor.shape.map(\.default)
            if !input.shape.isEmpty { try expectSame("shape of \(tensor.name)", input.shape, shape) }
            try expectSame("dtype of \(tensor.name)", input.dtype.rawValue, tensor.dtype.rawValue)
        }
        let kept = state.filter { $0.kind == .stateful }.map(\.input)
        try expectSame("states", file.states, Set(kept))
        if let missing = model.outputs.map(\.name).first(where: { !file.outputs.contains($0) }) {
            throw ASRError.contradiction("the model file has no output \(missing)")
        }
        for (key, value) in notes {
            guard let found = file.metadata["asrbuild.\(key)"] else { continue }
            if Double(found).map({ $0 != Double(value) }) ?? (found != value) {
                throw ASRError.contradiction("\(key) is \(found) in the model file, \(value) here")
            }
        }
        if let text = file.metadata["asrbuild.alphabet"] {
            let found = try? JSONDecoder().decode([String].self, from: Data(text.utf8))
            try expectSame("alphabet", found, decoder.alphabet)
        }
    }

    /// The manifest's values under the names of the file's metadata.
    private var notes: [(String, String)] {
        let values: [(String, (any CustomStringConvertible)?)] = [
            ("sample_rate_hz", audio.sampleRate), ("window_samples", features.windowSamples),
            ("step_samples", features.stepSamples), ("fft_size", features.fftSize),
            ("mel_bands", features.melBands), ("lower_hz", features.lowerHz),
            ("upper_hz", features.upperHz), ("coefficients", features.coefficients),
            ("log_floor", features.logFloor), ("context_frames", features.contextFrames),
            ("blank_index", decoder.blankIndex),
        ]
        return values.compactMap { name, value in value.map { (name, $0.description) } }
    }

    private func expectSame<Value: Equatable>(_ what: String, _ file: Value, _ own: Value) throws {
        guard file == own else {
            throw ASRError.contradiction("\(what): \(file) in the model file, \(own) here")
        }
    }
}
