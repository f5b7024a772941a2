#if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
import ASRCore
import CoreML
import Foundation

/// The package, run by Core ML as its manifest specifies.
///
/// Unchecked: Core ML's models may be used from several threads, and all else here is constant.
public final class ASRCoreMLModel: ASRAcousticModel, @unchecked Sendable {
    private let model: MLModel
    private let manifest: ASRManifest
    private let compiled: URL
    private let units: MLComputeUnits
    private let spare = Spare()

    /// The model of an artifact.
    public convenience init(
        _ artifact: ASRArtifact, computeUnits: MLComputeUnits? = nil
    ) async throws {
        try await self.init(
            contentsOf: artifact.model(), manifest: artifact.manifest, computeUnits: computeUnits
        )
    }

    /// Loads a model file.
    ///
    /// - Parameters:
    ///   - url: `NAME.mlmodelc`, as Xcode puts it in the app; a `.mlpackage` or `.mlmodel` is
    ///     compiled first, which takes some time, and the result is kept for the next load.
    ///   - computeUnits: nil: the manifest's recommendation, as `units(for:)` reads it.
    ///   - keep: where compiled models are kept; nil: below Application Support.
    /// - Throws: `ASRError` where the system is too old or the file is not the manifest's, and
    ///   Core ML's errors.
    public init(
        contentsOf url: URL, manifest: ASRManifest, computeUnits: MLComputeUnits? = nil,
        keep: URL? = nil
    ) async throws {
        try manifest.requireSystem(.current)
        let configuration = MLModelConfiguration()
        units = computeUnits ?? Self.units(for: manifest)
        configuration.computeUnits = units
        if manifest.model.functions.count > 1 {
            guard #available(iOS 18, macOS 15, *) else {
                throw ASRError.unsupported("a package of several functions on this system")
            }
            configuration.functionName = manifest.model.defaultFunction
        }
        guard manifest.model.inputs.allSatisfy({ $0.dtype != .float16 }) else {
            throw ASRError.unsupported("an input of half precision")
        }
        func load(_ compiled: URL) async throws -> MLModel {
            try await MLModel.load(contentsOf: compiled, configuration: configuration)
        }
        (compiled, model) = url.pathExtension == "mlmodelc"
            ? (url, try await load(url))
            : try await CompiledModels(folder: keep).loaded(
                url, of: manifest, compile: Self.compile, load: load
            )
        self.manifest = manifest
        try manifest.check(Self.interface(model.modelDescription))
    }

    private static func interface(_ described: MLModelDescription) -> ModelInterface {
        let inputs = described.inputDescriptionsByName.compactMapValues { input in
            input.multiArrayConstraint.map { array in
                ModelInterface.Input(
                    shape: array.shape.map(\.intValue),
                    // The values are those of the header: 0x10000 floating, 0x20000 whole, and bits.
                    dtype: array.dataType.rawValue == 0x20020
                        ? .int32 : array.dataType.rawValue == 0x10010 ? .float16 : .float32
                )
            }
        }
        var states: Set<String> = []
        if #available(iOS 18, macOS 15, *) { states = Set(described.stateDescriptionsByName.keys) }
        let notes = described.metadata[MLModelMetadataKey.creatorDefinedKey] as? [String: String]
        return ModelInterface(
            inputs: inputs, outputs: Set(described.outputDescriptionsByName.keys), states: states,
            metadata: notes ?? [:]
        )
    }

    /// Core ML's state of one utterance, where the package keeps it.
    public func makeState() throws -> (any ASRModelState)? {
        guard #available(iOS 18, macOS 15, *) else {
            throw ASRError.unsupported("a package that keeps its state on this system")
        }
        return Kept(model.makeState())
    }

    /// Runs the package once.
    ///
    /// Core ML's objects are read inside of a pool: without one they stay until the caller's thread
    /// drains its own, which in a long recording is after the last call.
    public func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        if #available(iOS 18, macOS 15, *), let kept = state as? Kept {
            let provider = try autoreleasepool { try self.provider(inputs) }
            let answer = try await model.prediction(from: provider, using: kept.state)
            return try autoreleasepool { try read(answer) }
        }
        guard state == nil else {
            throw ASRError.unsupported("a state of another model")
        }
        if #available(iOS 17, macOS 14, *) {
            let provider = try autoreleasepool { try self.provider(inputs) }
            let answer = try await model.prediction(from: provider)
            return try autoreleasepool { try read(answer) }
        }
        return try autoreleasepool { try read(try model.prediction(from: try provider(inputs))) }
    }

    /// The package on the CPU alone, loaded once, where this one may use more.
    public func fallback() async throws -> (any ASRAcousticModel)? {
        guard units != .cpuOnly else { return nil }
        return try await spare.model(compiled, manifest)
    }

    private func provider(_ inputs: [String: ASRTensor]) throws -> MLDictionaryFeatureProvider {
        var values: [String: Any] = [:]
        for described in manifest.model.inputs {
            guard let tensor = inputs[described.name] else {
                throw ASRError.unsupported("the input \(described.name)")
            }
            values[described.name] = try Self.value(tensor, as: described.dtype)
        }
        return try MLDictionaryFeatureProvider(dictionary: values)
    }

    private func read(_ answer: any MLFeatureProvider) throws -> [String: ASRTensor] {
        var outputs: [String: ASRTensor] = [:]
        for described in manifest.model.outputs {
            guard let array = answer.featureValue(for: described.name)?.multiArrayValue else {
                throw ASRError.badOutput("no array \(described.name)")
            }
            // Follows the array's strides, and widens half precision.
            let converted = MLShapedArray<Float>(converting: array)
            outputs[described.name] = ASRTensor(shape: converted.shape, values: converted.scalars)
        }
        return outputs
    }

    private static func value(
        _ tensor: ASRTensor, as dtype: ASRManifest.Tensor.Dtype
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

    /// The file compiled, where it is not; the caller removes the result.
    package static func compiled(_ url: URL) async throws -> URL {
        url.pathExtension == "mlmodelc" ? url : try await compile(url)
    }

    private static func compile(_ url: URL) async throws -> URL {
        if #available(iOS 16, macOS 13, *) { return try await MLModel.compileModel(at: url) }
        return try compileBlocking(url)
    }

    /// In asynchronous code the name means the function of iOS 16.
    private static func compileBlocking(_ url: URL) throws -> URL {
        try MLModel.compileModel(at: url)
    }

    /// The compute units of a manifest on this device; in a simulator the CPU.
    public static func units(for manifest: ASRManifest) -> MLComputeUnits {
        #if targetEnvironment(simulator)
        return .cpuOnly
        #else
        switch manifest.computeUnits {
        case .all: return .all
        case .cpuOnly: return .cpuOnly
        case .cpuAndGPU: return .cpuAndGPU
        // The Neural Engine without the GPU came with iOS 16.
        case .cpuAndNE:
            if #available(iOS 16, macOS 13, *) { return .cpuAndNeuralEngine }
            return .all
        }
        #endif
    }

    /// Core ML's own state. Unchecked: an utterance makes one call after another.
    @available(iOS 18, macOS 15, *)
    private final class Kept: ASRModelState, @unchecked Sendable {
        let state: MLState

        init(_ state: MLState) {
            self.state = state
        }
    }

    /// The model on the CPU, when it was needed once.
    private actor Spare {
        private var loading: Task<ASRCoreMLModel, any Error>?

        func model(_ url: URL, _ manifest: ASRManifest) async throws -> ASRCoreMLModel {
            let task = loading ?? Task {
                try await ASRCoreMLModel(contentsOf: url, manifest: manifest, computeUnits: .cpuOnly)
            }
            loading = task
            return try await task.value
        }
    }
}
#endif
