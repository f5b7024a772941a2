import Foundation

/// The times of a package's or a decoder's calls.
public struct ASRTimings: Codable, Equatable, Sendable {
    /// Calls that were made, failed ones too.
    public var calls = 0
    /// Seconds of all calls.
    public var seconds = 0.0
    /// Seconds of the longest call.
    public var longest = 0.0

    /// No calls.
    public init() {}

    /// Adds a call.
    package mutating func add(_ seconds: Double) {
        calls += 1
        self.seconds += seconds
        longest = max(longest, seconds)
    }
}

/// A model that measures the calls of another.
public final class ASRTimedModel: ASRAcousticModel {
    private let model: any ASRAcousticModel
    private let record: Record

    /// Unchecked: behind a lock.
    private final class Record: @unchecked Sendable {
        private let lock = NSLock()
        private var timings = ASRTimings()

        func add(_ seconds: Double) {
            lock.withLock { timings.add(seconds) }
        }

        func take(reset: Bool) -> ASRTimings {
            lock.withLock {
                defer { if reset { timings = ASRTimings() } }
                return timings
            }
        }
    }

    /// Measures the calls of a model, and of its fallback.
    public init(_ model: any ASRAcousticModel) {
        self.model = model
        record = Record()
    }

    private init(_ model: any ASRAcousticModel, _ record: Record) {
        self.model = model
        self.record = record
    }

    /// The calls so far, since the last `reset`.
    public var timings: ASRTimings { record.take(reset: false) }

    /// Begins again with no calls; returns those so far.
    @discardableResult
    public func reset() -> ASRTimings { record.take(reset: true) }

    /// The model's.
    public func makeState() throws -> (any ASRModelState)? { try model.makeState() }

    /// Makes the call, and measures it.
    public func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        let start = ProcessInfo.processInfo.systemUptime
        defer { record.add(ProcessInfo.processInfo.systemUptime - start) }
        return try await model.predict(inputs, state: state)
    }

    /// The model's, measured too.
    public func fallback() async throws -> (any ASRAcousticModel)? {
        try await model.fallback().map { ASRTimedModel($0, record) }
    }
}
