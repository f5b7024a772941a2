/// A tensor, its values in row-major order.
public struct ASRTensor: Equatable, Sendable {
    /// The size of each axis.
    public let shape: [Int]
    /// The values, the last axis fastest.
    public let values: [Float]

    /// A tensor; the values must fill the shape.
    public init(shape: [Int], values: [Float]) {
        precondition(shape.reduce(1, *) == values.count, "the values must fill the shape")
        self.shape = shape
        self.values = values
    }

    package static func zeros(_ shape: [Int]) -> ASRTensor {
        ASRTensor(shape: shape, values: [Float](repeating: 0, count: shape.reduce(1, *)))
    }
}

/// The state that a package keeps to itself during one utterance. One call uses it at a time.
public protocol ASRModelState: AnyObject, Sendable {}

/// Runs the package: `ASRCoreMLModel`, or a stand-in in a test.
public protocol ASRAcousticModel: AnyObject, Sendable {
    /// A state of zeros for one utterance; nil where the app carries the state itself.
    func makeState() throws -> (any ASRModelState)?

    /// Runs the package once; inputs and outputs by name, as in the manifest.
    func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor]

    /// The same package on other compute units, for a call that failed; nil where there are none.
    func fallback() async throws -> (any ASRAcousticModel)?
}

extension ASRAcousticModel {
    /// None: a call that fails is an error.
    public func fallback() async throws -> (any ASRAcousticModel)? { nil }
}
