// The part of Core ML's interface that ASRKit uses, with the availability that Apple's documentation states:
// only to be type-checked against, for Apple's targets. The one that runs is in coreml_stand_in/.
import Foundation

@available(macOS 10.13, iOS 11, *)
public enum MLComputeUnits: Int, Sendable {
    case cpuOnly, cpuAndGPU, all
    @available(macOS 13, iOS 16, *) case cpuAndNeuralEngine
}

@available(macOS 10.14, iOS 12, *)
open class MLModelConfiguration {
    public init() {}
    public var computeUnits: MLComputeUnits { get { fatalError() } set {} }
}

@available(macOS 15, iOS 18, *)
extension MLModelConfiguration {
    public var functionName: String? { get { nil } set {} }
}

@available(macOS 10.13, iOS 11, *) open class MLMultiArray {}

@available(macOS 12, iOS 15, *) public protocol MLShapedArrayScalar {}
@available(macOS 12, iOS 15, *) extension Float: MLShapedArrayScalar {}
@available(macOS 12, iOS 15, *) extension Int32: MLShapedArrayScalar {}

@available(macOS 12, iOS 15, *)
public protocol MLShapedArrayProtocol<Scalar> {
    associatedtype Scalar: MLShapedArrayScalar
    var shape: [Int] { get }
    var scalars: [Scalar] { get set }
}

@available(macOS 12, iOS 15, *)
extension MLShapedArrayProtocol {
    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar { fatalError() }
    public init(converting multiArray: MLMultiArray) { fatalError() }
}

@available(macOS 12, iOS 15, *)
public struct MLShapedArray<Scalar: MLShapedArrayScalar>: MLShapedArrayProtocol {
    public var shape: [Int] { [] }
    public var scalars: [Scalar] { get { [] } set {} }
}

@available(macOS 15, iOS 18, *)
extension MLShapedArray {
    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar { fatalError() }
    public init(converting multiArray: MLMultiArray) { fatalError() }
}

@available(macOS 10.13, iOS 11, *)
open class MLFeatureValue {
    init() {}
    public var multiArrayValue: MLMultiArray? { nil }
}

@available(macOS 12, iOS 15, *)
extension MLFeatureValue {
    public convenience init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) { self.init() }
}

@available(macOS 10.13, iOS 11, *)
public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

@available(macOS 10.13, iOS 11, *)
open class MLDictionaryFeatureProvider: MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}
    public var featureNames: Set<String> { [] }
    public func featureValue(for featureName: String) -> MLFeatureValue? { nil }
}

@available(macOS 15, iOS 18, *) open class MLState { init() {} }
@available(macOS 10.14, iOS 12, *) open class MLPredictionOptions { public init() {} }

@available(macOS 10.13, iOS 11, *)
public enum MLMultiArrayDataType: Int, Sendable {
    case double = 0x10040, float32 = 0x10020, int32 = 0x20020
    @available(macOS 12, iOS 16, *) case float16 = 0x10010
}

@available(macOS 10.13, iOS 11, *)
open class MLMultiArrayConstraint {
    init() {}
    public var shape: [NSNumber] { [] }
    public var dataType: MLMultiArrayDataType { .double }
}

@available(macOS 10.13, iOS 11, *)
open class MLFeatureDescription {
    init() {}
    public var multiArrayConstraint: MLMultiArrayConstraint? { nil }
}

@available(macOS 10.13, iOS 11, *)
public struct MLModelMetadataKey: Hashable, Sendable {
    public static let creatorDefinedKey = MLModelMetadataKey()
}

@available(macOS 10.13, iOS 11, *)
open class MLModelDescription {
    init() {}
    public var inputDescriptionsByName: [String: MLFeatureDescription] { [:] }
    public var outputDescriptionsByName: [String: MLFeatureDescription] { [:] }
    @available(macOS 15, iOS 18, *)
    public var stateDescriptionsByName: [String: MLFeatureDescription] { [:] }
    public var metadata: [MLModelMetadataKey: Any] { [:] }
}

@available(macOS 10.13, iOS 11, *)
open class MLModel {
    public var modelDescription: MLModelDescription { fatalError() }
    public convenience init(contentsOf url: URL) throws { fatalError() }
    @available(macOS 10.14, iOS 12, *)
    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {}
    @available(macOS 12, iOS 15, *)
    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel { fatalError() }
    @available(macOS, introduced: 10.13, deprecated: 27)
    @available(iOS, introduced: 11, deprecated: 27)
    public class func compileModel(at modelURL: URL) throws -> URL { modelURL }
    @available(macOS 13, iOS 16, *)
    public class func compileModel(at modelURL: URL) async throws -> URL { modelURL }
    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        fatalError()
    }
    @available(macOS 14, iOS 17, *)
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider { fatalError() }
}

@available(macOS 15, iOS 18, *)
extension MLModel {
    public func makeState() -> MLState { MLState() }
    public func prediction(
        from inputFeatures: any MLFeatureProvider, using state: MLState
    ) throws -> any MLFeatureProvider { fatalError() }
    public func prediction(
        from inputFeatures: any MLFeatureProvider, using state: MLState,
        options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider { fatalError() }
}

@available(macOS 14, iOS 17, *)
public enum MLComputeDevice {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)
}
@available(macOS 14, iOS 17, *)
public final class MLCPUComputeDevice {}
@available(macOS 14, iOS 17, *)
public final class MLGPUComputeDevice {}
@available(macOS 14, iOS 17, *)
public final class MLNeuralEngineComputeDevice {}

@available(macOS 14.4, iOS 17.4, *)
public struct MLComputePlan: @unchecked Sendable {
    public struct DeviceUsage {
        public var supported: [MLComputeDevice] { [] }
        public var preferred: MLComputeDevice { fatalError() }
    }
    public struct Cost { public var weight: Double { 0 } }
    public var modelStructure: MLModelStructure { fatalError() }
    public static func load(
        contentsOf url: URL, configuration: MLModelConfiguration
    ) async throws -> MLComputePlan { fatalError() }
    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? { nil }
    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? { nil }
    public func deviceUsage(for layer: MLModelStructure.NeuralNetwork.Layer) -> DeviceUsage? { nil }
}
@available(macOS 14.4, iOS 17.4, *)
public enum MLModelStructure {
    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case unsupported
    public struct NeuralNetwork {
        public struct Layer {
            public var name: String { "" }
            public var type: String { "" }
        }
        public var layers: [Layer] { [] }
    }
    public struct Program {
        public struct Function { public var block: Block { fatalError() } }
        public struct Block { public var operations: [Operation] { [] } }
        public struct NamedValueType { public var name: String { "" } }
        public struct Operation {
            public var operatorName: String { "" }
            public var outputs: [NamedValueType] { [] }
            public var blocks: [Block] { [] }
        }
        public var functions: [String: Function] { [:] }
    }
}
