#if canImport(CoreAI) && !os(tvOS) && !os(watchOS) && !os(visionOS)
import ASRCore
import CoreAI
import Foundation

/// The `.aimodel`, run by Core AI as its manifest specifies.
///
/// Written by Apple's documentation, and not run on a device: see the kit's README. Unchecked: loaded
/// functions are constant.
@available(iOS 27, macOS 27, *)
public final class ASRCoreAIModel: ASRAcousticModel, @unchecked Sendable {
    /// One a size, where the package takes enumerated sizes.
    private let functions: [InferenceFunction]
    private let manifest: ASRManifest

    /// Loads the asset, which takes a moment.
    public init(contentsOf url: URL, manifest: ASRManifest) async throws {
        let name = manifest.model.defaultFunction
        let model = try await AIModel(contentsOf: url)
        let names = model.functionNames
        let own = names.filter { $0 == name || $0.hasPrefix(name + "_") }
        functions = try (own.isEmpty ? names : own).compactMap { try model.loadFunction(named: $0) }
        self.manifest = manifest
    }

    /// States of zeros for one utterance, where the asset keeps them.
    public func makeState() throws -> (any ASRModelState)? {
        guard manifest.state.contains(where: { $0.kind == .stateful }) else { return nil }
        guard manifest.state.count == 2 else {
            throw ASRError.unsupported("an asset with other than two states")
        }
        return Kept(manifest.state.map(\.shape))
    }

    /// Runs the asset once.
    public func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        var arrays: [String: NDArray] = [:]
        for described in manifest.model.inputs {
            guard let tensor = inputs[described.name] else {
                throw ASRError.unsupported("the input \(described.name)")
            }
            arrays[described.name] = try Self.array(tensor, as: described.dtype)
        }
        let function = try fitting(inputs)
        let names = manifest.model.outputs.map(\.name)
        guard let kept = state as? Kept else {
            var outputs = try await function.run(inputs: arrays)
            return try Self.read(&outputs, names)
        }
        let states = manifest.state.map(\.output)
        // Views of a class's own properties would outlive the access.
        var (first, second) = (kept.first, kept.second)
        var views = InferenceFunction.MutableViews()
        views.insert(&first, for: states[0])
        views.insert(&second, for: states[1])
        var outputs = try await function.run(inputs: arrays, states: views)
        (kept.first, kept.second) = (first, second)
        return try Self.read(&outputs, names)
    }

    /// The function that takes inputs of these shapes.
    private func fitting(_ inputs: [String: ASRTensor]) throws -> InferenceFunction {
        let found = functions.first { function in
            inputs.allSatisfy { name, tensor in
                guard case .ndArray(let described)? = function.descriptor.inputDescriptor(of: name)
                else { return false }
                // A dynamic dimension is negative.
                return described.shape.count == tensor.shape.count
                    && zip(described.shape, tensor.shape).allSatisfy { $0 < 0 || $0 == $1 }
            }
        }
        guard let found = found else {
            throw ASRError.unsupported("a call of this size")
        }
        return found
    }

    private static func array(
        _ tensor: ASRTensor, as dtype: ASRManifest.Tensor.Dtype
    ) throws -> NDArray {
        switch dtype {
        case .float32: return NDArray(scalars: tensor.values, shape: tensor.shape)
        case .int32: return NDArray(scalars: tensor.values.map { Int32($0) }, shape: tensor.shape)
        case .float16: throw ASRError.unsupported("an input of half precision")
        }
    }

    /// Outputs are contiguous, in row-major order.
    private static func read(
        _ outputs: inout InferenceFunction.Outputs, _ names: [String]
    ) throws -> [String: ASRTensor] {
        var found: [String: ASRTensor] = [:]
        for name in names {
            guard let array = outputs.remove(name)?.ndArray else {
                throw ASRError.badOutput("no array \(name)")
            }
            let shape = array.shape
            let count = shape.reduce(1, *)
            let values: [Float] = array.view(as: Float.self).withUnsafePointer { pointer, _, _ in
                Array(UnsafeBufferPointer(start: pointer, count: count))
            }
            found[name] = ASRTensor(shape: shape, values: values)
        }
        return found
    }

    /// The states of one utterance, zeros at its start. Unchecked: it makes one call after another.
    private final class Kept: ASRModelState, @unchecked Sendable {
        var first: NDArray
        var second: NDArray

        init(_ shapes: [[Int]]) {
            let zeros = shapes.map { ASRTensor.zeros($0) }
            first = NDArray(scalars: zeros[0].values, shape: zeros[0].shape)
            second = NDArray(scalars: zeros[1].values, shape: zeros[1].shape)
        }
    }
}
#endif
