// The part of Core ML's interface that ASRKit uses, as Apple's documentation declares it, answered by
// asrbuild's executor: a model here sends its inputs down one pipe and reads the outputs from another.
// It shows that CoreMLModel.swift compiles and what it does; it cannot show what Core ML does.
import Foundation

#if !canImport(ObjectiveC)
/// Objective-C's, where there are no objects to release.
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result {
    try body()
}
#endif

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
}

public class MLModelConfiguration {
    public var computeUnits: MLComputeUnits = .all
    public var functionName: String?

    public init() {}
}

public protocol MLShapedArrayScalar {
    static var kind: String { get }
    var number: Double { get }
    static func from(_ number: Double) -> Self
}

extension Float: MLShapedArrayScalar {
    public static var kind: String { "float32" }
    public var number: Double { Double(self) }
    public static func from(_ number: Double) -> Float { Float(number) }
}

extension Int32: MLShapedArrayScalar {
    public static var kind: String { "int32" }
    public var number: Double { Double(self) }
    public static func from(_ number: Double) -> Int32 { Int32(number) }
}

public class MLMultiArray {
    let kind: String
    let sizes: [Int]
    let numbers: [Double]

    init(kind: String, sizes: [Int], numbers: [Double]) {
        self.kind = kind
        self.sizes = sizes
        self.numbers = numbers
    }

    /// The bytes of the numbers, little-endian. JSON's own numbers take most of the time of a test.
    convenience init(kind: String, sizes: [Int], base64: String) {
        let numbers = Data(base64Encoded: base64)!.withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
        self.init(kind: kind, sizes: sizes, numbers: numbers)
    }

    var base64: String { numbers.withUnsafeBytes { Data($0).base64EncodedString() } }
}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public let shape: [Int]
    public let scalars: [Scalar]

    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar {
        self.scalars = Array(scalars)
        self.shape = shape
        precondition(self.scalars.count == shape.reduce(1, *))
    }

    public init(converting multiArray: MLMultiArray) {
        self.init(scalars: multiArray.numbers.map(Scalar.from), shape: multiArray.sizes)
    }
}

public class MLFeatureValue {
    public let multiArrayValue: MLMultiArray?

    public init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) {
        multiArrayValue = MLMultiArray(
            kind: Scalar.kind, sizes: shapedArray.shape, numbers: shapedArray.scalars.map(\.number)
        )
    }

    init(_ array: MLMultiArray) { multiArrayValue = array }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public class MLDictionaryFeatureProvider: MLFeatureProvider {
    let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = try dictionary.mapValues { value in
            guard let feature = value as? MLFeatureValue else { throw CocoaError(.featureUnsupported) }
            return feature
        }
    }

    public var featureNames: Set<String> { Set(values.keys) }
    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

public class MLPredictionOptions {
    public init() {}
}

public class MLState {
    let number: Int

    init(number: Int) { self.number = number }
}

public enum MLMultiArrayDataType: Int {
    case double = 0x10040
    case float32 = 0x10020
    case float16 = 0x10010
    case int32 = 0x20020
}

public class MLMultiArrayConstraint {
    public let shape: [NSNumber]
    public let dataType: MLMultiArrayDataType

    init(_ described: [String: Any]) {
        shape = (described["shape"] as! [Int]).map { NSNumber(value: $0) }
        let types = ["int32": MLMultiArrayDataType.int32, "float16": .float16, "float32": .float32]
        dataType = types[described["kind"] as! String] ?? .double
    }
}

public class MLFeatureDescription {
    public let multiArrayConstraint: MLMultiArrayConstraint?

    init(_ described: Any) {
        multiArrayConstraint = (described as? [String: Any]).map(MLMultiArrayConstraint.init)
    }
}

public struct MLModelMetadataKey: Hashable, Sendable {
    public static let creatorDefinedKey = MLModelMetadataKey()
}

public class MLModelDescription {
    public let inputDescriptionsByName: [String: MLFeatureDescription]
    public let outputDescriptionsByName: [String: MLFeatureDescription]
    public let stateDescriptionsByName: [String: MLFeatureDescription]
    public let metadata: [MLModelMetadataKey: Any]

    init(_ described: [String: Any]) {
        func features(_ name: String) -> [String: MLFeatureDescription] {
            (described[name] as? [String: Any] ?? [:]).mapValues(MLFeatureDescription.init)
        }
        inputDescriptionsByName = features("inputs")
        outputDescriptionsByName = features("outputs")
        stateDescriptionsByName = features("states")
        metadata = [.creatorDefinedKey: described["metadata"] as? [String: String] ?? [:]]
    }
}

public class MLModel {
    public let modelDescription: MLModelDescription
    private let executor: Executor
    private let setting: [String: Any]

    public init(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) throws {
        guard url.pathExtension == "mlmodelc" else { throw CocoaError(.fileReadCorruptFile) }
        executor = try Executor.shared.get()
        setting = ["function": configuration.functionName ?? NSNull()]
        modelDescription = MLModelDescription(
            try executor.ask(setting.merging(["ask": "describe"]) { $1 })
        )
    }

    public class func compileModel(at modelURL: URL) throws -> URL {
        guard FileManager.default.fileExists(atPath: modelURL.path) else {
            throw CocoaError(.fileNoSuchFile)
        }
        let made = FileManager.default.temporaryDirectory
            .appendingPathComponent("\(UUID().uuidString).mlmodelc")
        try Data(modelURL.path.utf8).write(to: made)
        return made
    }

    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        try MLModel(contentsOf: url, configuration: configuration)
    }

    public class func compileModel(at modelURL: URL) async throws -> URL {
        let compile: (URL) throws -> URL = compileModel
        return try compile(modelURL)
    }

    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        try answer(input, NSNull())
    }

    public func prediction(
        from input: any MLFeatureProvider, using state: MLState,
        options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        try answer(input, state.number)
    }

    public func makeState() -> MLState {
        let answer = try? executor.ask(setting.merging(["ask": "state"]) { $1 })
        return MLState(number: answer?["state"] as? Int ?? -1)
    }

    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try answer(input, NSNull())
    }

    public func prediction(
        from input: any MLFeatureProvider, using state: MLState
    ) throws -> any MLFeatureProvider {
        try answer(input, state.number)
    }

    private func answer(_ input: any MLFeatureProvider, _ state: Any) throws -> any MLFeatureProvider {
        var inputs: [String: Any] = [:]
        for name in input.featureNames {
            let array = input.featureValue(for: name)!.multiArrayValue!
            inputs[name] = ["kind": array.kind, "sizes": array.sizes, "numbers": array.base64]
        }
        let found = try executor.ask(
            setting.merging(["ask": "predict", "inputs": inputs, "state": state]) { $1 }
        )
        let outputs = found["outputs"] as? [String: [String: Any]] ?? [:]
        return try MLDictionaryFeatureProvider(
            dictionary: outputs.mapValues { output in
                MLFeatureValue(
                    MLMultiArray(
                        kind: "float32",
                        sizes: output["sizes"] as! [Int],
                        base64: output["numbers"] as! String
                    )
                )
            }
        )
    }
}

/// The part of a compute plan that is read; here there is none.
public struct MLComputePlan {
    public struct DeviceUsage {
        public let supported: [MLComputeDevice]
        public let preferred: MLComputeDevice
    }

    public struct Cost {
        public let weight: Double
    }

    public let modelStructure: MLModelStructure

    public static func load(
        contentsOf url: URL, configuration: MLModelConfiguration
    ) async throws -> MLComputePlan {
        throw CocoaError(.featureUnsupported)
    }

    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? { nil }
    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? { nil }
    public func deviceUsage(for layer: MLModelStructure.NeuralNetwork.Layer) -> DeviceUsage? { nil }
}

public enum MLComputeDevice: Sendable { case cpu, gpu, neuralEngine }

public enum MLModelStructure {
    case program(Program)
    case neuralNetwork(NeuralNetwork)
    case unsupported

    public struct Program {
        public let functions: [String: Function]

        public struct Function {
            public let block: Block
        }

        public struct Block {
            public let operations: [Operation]
        }

        public struct Operation {
            public let operatorName: String
            public let outputs: [NamedValueType]
            public let blocks: [Block]
        }

        public struct NamedValueType {
            public let name: String
        }
    }

    public struct NeuralNetwork {
        public let layers: [Layer]

        public struct Layer {
            public let name: String
            public let type: String
        }
    }
}

private final class Executor: @unchecked Sendable {
    static let shared = Result { try Executor() }

    private let requests: FileHandle
    private let answers: FileHandle

    init() throws {
        guard let folder = ProcessInfo.processInfo.environment["ASRKIT_EXECUTOR"],
            let requests = FileHandle(forWritingAtPath: folder + "/requests"),
            let answers = FileHandle(forReadingAtPath: folder + "/answers")
        else { throw CocoaError(.fileNoSuchFile) }
        self.requests = requests
        self.answers = answers
    }

    func ask(_ question: [String: Any]) throws -> [String: Any] {
        var line = try JSONSerialization.data(withJSONObject: question)
        line.append(10)
        try requests.write(contentsOf: line)
        var answer = Data()
        while answer.last != 10 {
            let more = answers.availableData
            guard !more.isEmpty else { throw CocoaError(.fileReadUnknown) }
            answer.append(more)
        }
        let found = try JSONSerialization.jsonObject(with: answer) as? [String: Any] ?? [:]
        if let error = found["error"] as? String {
            throw NSError(domain: error, code: 1)
        }
        return found
    }
}
