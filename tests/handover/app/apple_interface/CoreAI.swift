// The part of Core AI's interface that ASRKit uses, with the availability that Apple's documentation states:
// only to be type-checked against, for Apple's targets. Nothing here runs it.
import Foundation

@available(macOS 27, iOS 27, *)
public struct NDArray: Sendable {
    public init<Scalar>(scalars: [Scalar], shape: [Int]) { fatalError() }
    public var shape: [Int] { [] }
    public func view<Scalar>(as type: Scalar.Type) -> View<Scalar> { fatalError() }

    public struct View<Scalar> {
        public func withUnsafePointer<Result>(
            _ body: (UnsafePointer<Scalar>, [Int], [Int]) throws -> Result
        ) rethrows -> Result { fatalError() }
    }
}

@available(macOS 27, iOS 27, *)
public struct NDArrayDescriptor: Sendable { public var shape: [Int] { [] } }

@available(macOS 27, iOS 27, *)
public enum InferenceValueDescriptor: Sendable { case ndArray(NDArrayDescriptor), image }

@available(macOS 27, iOS 27, *)
public struct InferenceFunctionDescriptor: Sendable {
    public func inputDescriptor(of name: String) -> InferenceValueDescriptor? { nil }
}

@available(macOS 27, iOS 27, *)
public struct InferenceValue { public var ndArray: NDArray? { nil } }

@available(macOS 27, iOS 27, *)
public struct InferenceFunction: Sendable {
    public struct MutableViews: ~Copyable {
        public init() {}
        public mutating func insert(_ array: inout NDArray, for name: String) {}
    }

    public struct Outputs {
        public mutating func remove(_ name: String) -> InferenceValue? { nil }
    }

    public var descriptor: InferenceFunctionDescriptor { fatalError() }
    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs { fatalError() }
}

@available(macOS 27, iOS 27, *)
public struct AIModel: Sendable {
    public struct SpecializationOptions: Sendable { public init() {} }

    public init(
        contentsOf url: URL, options: SpecializationOptions = SpecializationOptions()
    ) async throws {}
    public var functionNames: [String] { [] }
    public func loadFunction(named functionName: String) throws -> InferenceFunction? { nil }
}
