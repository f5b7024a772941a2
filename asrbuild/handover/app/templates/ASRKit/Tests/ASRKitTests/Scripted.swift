import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

struct Interrupted: Error {}

/// A model that counts its calls: the state grows by one with each, and all rows say one class.
/// `change` replaces the outputs of a call, by its number from 0, or fails.
final class Scripted: ASRAcousticModel, @unchecked Sendable {
    typealias Change = @Sendable (Int, [String: ASRTensor]) throws -> [String: ASRTensor]

    private let manifest: ASRManifest
    private let other: (any ASRAcousticModel)?
    private let change: Change
    private let lock = NSLock()
    private var begun: [Float] = []

    final class Kept: ASRModelState {}

    init(
        _ manifest: ASRManifest, fallback: (any ASRAcousticModel)? = nil,
        change: @escaping Change = { $1 }
    ) {
        self.manifest = manifest
        self.change = change
        other = fallback
    }

    /// The first value of the first state that each call began with.
    var states: [Float] { lock.withLock { begun } }

    func makeState() throws -> (any ASRModelState)? { Kept() }

    func fallback() async throws -> (any ASRAcousticModel)? { other }

    func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        let pairs = manifest.state.filter { $0.kind == .explicit }
        let first = pairs.first.flatMap { inputs[$0.input]?.values.first } ?? 0
        let number = lock.withLock {
            begun.append(first)
            return begun.count - 1
        }
        await Task.yield()
        var outputs: [String: ASRTensor] = [:]
        for pair in pairs {
            let given = inputs[pair.input]!
            outputs[pair.output] = ASRTensor(shape: given.shape, values: given.values.map { $0 + 1 })
        }
        let (fed, decoded) = (try Laid.fed(manifest), try Laid.decoded(manifest))
        let size = RowCount(manifest).of(inputs[fed.name]!.values.count / fed.width)
        // A blank, then a label: a character for every other row. Calls of one row count by their state.
        let before = size == 1 ? Int(first) : 0
        let blank = manifest.decoder.blankIndex ?? decoded.classes - 1
        let label = decoded.classes > 2 ? (blank + 2) % decoded.classes : 0
        let (likely, never): (Float, Float) = switch decoded.meaning {
        case .probabilities: (1, 0)
        case .logProbabilities: (0, -90)
        default: (60, -60)
        }
        let values = (0..<size * decoded.width).map { index -> Float in
            let (row, at) = (index / decoded.width, index % decoded.width)
            return at == ((row + before) % 2 == 0 ? blank : label) ? likely : never
        }
        outputs[decoded.name] = ASRTensor(shape: decoded.shape(size), values: decoded.lay(values, size))
        return try change(number, outputs)
    }
}

extension ASRAcousticStream {
    /// The rows of the first recording of an artifact.
    mutating func finish(after artifact: Artifact) async throws -> ASRRows {
        let recording = try XCTUnwrap(artifact.vectors.recordings.first)
        var rows = try await feed(try artifact.fed(recording))
        rows.append(try await finish())
        return rows
    }
}

/// Expects an error; of `badOutput`, whatever it says.
func fails(
    _ expected: ASRError, line: UInt = #line, _ work: () async throws -> Void
) async {
    do {
        try await work()
        XCTFail("no error", line: line)
    } catch ASRError.badOutput(_) {
        guard case .badOutput(_) = expected else { return XCTFail("a bad output", line: line) }
    } catch {
        XCTAssertEqual(error as? ASRError, expected, "\(error)", line: line)
    }
}
