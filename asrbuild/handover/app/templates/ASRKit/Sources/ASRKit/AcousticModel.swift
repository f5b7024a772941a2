/// A tensor, its values in row-major order.
public struct Tensor: Equatable, Sendable {
    public let shape: [Int]
    public let values: [Float]

    public init(shape: [Int], values: [Float]) {
        precondition(shape.reduce(1, *) == values.count, "the values must fill the shape")
        self.shape = shape
        self.values = values
    }

    static func zeros(_ shape: [Int]) -> Tensor {
        Tensor(shape: shape, values: [Float](repeating: 0, count: shape.reduce(1, *)))
    }
}

/// The state that a package keeps to itself during one utterance. One call uses it at a time.
public protocol ModelState: AnyObject, Sendable {}

/// Runs the package: `CoreMLModel`, or a stand-in in a test.
public protocol AcousticModel: AnyObject, Sendable {
    /// A state of zeros for one utterance; nil where the app carries the state itself.
    func makeState() throws -> (any ModelState)?

    /// Runs the package once; inputs and outputs by name, as in the manifest.
    func predict(
        _ inputs: [String: Tensor], state: (any ModelState)?
    ) async throws -> [String: Tensor]

    /// The same package on other compute units, for a call that failed; nil where there are none.
    func fallback() async throws -> (any AcousticModel)?
}

extension AcousticModel {
    public func fallback() async throws -> (any AcousticModel)? { nil }
}
