#if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
import CoreML
import Foundation

/// The package, run by Core ML as its manifest specifies.
public final class CoreMLModel: AcousticModel {
    private let model: MLModel
    private let manifest: ASRManifest

    /// - Parameters:
    ///   - url: `model.mlmodelc`, as Xcode puts it in the app; a `.mlpackage` or `.mlmodel` is
    ///     compiled first, which takes some time.
    ///   - computeUnits: nil: the manifest's recommendation.
    public init(
        contentsOf url: URL, manifest: ASRManifest, computeUnits: MLComputeUnits? = nil
    ) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits =
            computeUnits ?? Self.units(manifest.model.recommendedComputeUnits)
        if manifest.model.functions.count > 1 {
            guard #available(iOS 18, macOS 15, *) else {
                throw ASRError.unsupported("a package of several functions on this system")
            }
            configuration.functionName = manifest.model.defaultFunction
        }
        let compiled = url.pathExtension == "mlmodelc" ? url : try MLModel.compileModel(at: url)
        model = try MLModel(contentsOf: compiled, configuration: configuration)
        self.manifest = manifest
    }

    public func makeState() throws -> AnyObject? {
        guard #available(iOS 18, macOS 15, *) else {
            throw ASRError.unsupported("a package that keeps its state on this system")
        }
        return model.makeState()
    }

    public func predict(_ inputs: [String: Tensor], state: AnyObject?) throws -> [String: Tensor] {
        var values: [String: Any] = [:]
        for described in manifest.model.inputs {
            guard let tensor = inputs[described.name] else {
                throw ASRError.unsupported("the input \(described.name)")
            }
            values[described.name] = try Self.value(tensor, as: described.dtype)
        }
        let provider = try MLDictionaryFeatureProvider(dictionary: values)
        let answer = try run(provider, state)
        var outputs: [String: Tensor] = [:]
        for described in manifest.model.outputs {
            guard let array = answer.featureValue(for: described.name)?.multiArrayValue else {
                throw ASRError.badOutput("no array \(described.name)")
            }
            // Follows the array's strides, and widens half precision.
            let converted = MLShapedArray<Float>(converting: array)
            outputs[described.name] = Tensor(shape: converted.shape, values: converted.scalars)
        }
        return outputs
    }

    private func run(
        _ provider: MLDictionaryFeatureProvider, _ state: AnyObject?
    ) throws -> any MLFeatureProvider {
        guard let state = state else { return try model.prediction(from: provider) }
        guard #available(iOS 18, macOS 15, *),
            let held = state as? MLState
        else {
            throw ASRError.unsupported("a package that keeps its state on this system")
        }
        return try model.prediction(from: provider, using: held)
    }

    private static func value(
        _ tensor: Tensor, as dtype: ASRManifest.Tensor.Dtype
    ) throws -> MLFeatureValue {
        switch dtype {
        case .float32:
            return MLFeatureValue(
                shapedArray: MLShapedArray<Float>(scalars: tensor.values, shape: tensor.shape)
            )
        case .int32:
            let whole = tensor.values.map { Int32($0) }
            return MLFeatureValue(
                shapedArray: MLShapedArray<Int32>(scalars: whole, shape: tensor.shape)
            )
        case .float16:
            throw ASRError.unsupported("an input of half precision")
        }
    }

    private static func units(_ units: ASRManifest.Model.RecommendedComputeUnits) -> MLComputeUnits {
        switch units {
        case .all: return .all
        case .cpuOnly: return .cpuOnly
        case .cpuAndGPU: return .cpuAndGPU
        // The Neural Engine without the GPU came with iOS 16.
        case .cpuAndNE:
            if #available(iOS 16, macOS 13, *) { return .cpuAndNeuralEngine }
            return .all
        }
    }
}
#endif
