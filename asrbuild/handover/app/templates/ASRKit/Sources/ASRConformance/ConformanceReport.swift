import ASRCore
import Foundation

/// A model's results on the conformance vectors of its artifact: every step from samples to words.
///
/// `run` is for a debug menu: it shows what this device computes, on the units that it is loaded for.
public struct ASRConformanceReport: Codable, Equatable, Sendable {
    /// One measure of one step of one recording.
    public struct Finding: Codable, Equatable, Sendable {
        /// The recording.
        public let recording: String
        /// The step, as in `steps.json`.
        public let step: String
        /// The measurement; `differences` counts unequal values where all must be equal.
        public let measure: String
        /// Its value.
        public let value: Double
        /// The limit of the vectors: the least agreement, and the most of all else.
        public let limit: Double

        /// Whether the value keeps to the limit.
        public var passed: Bool {
            measure == "argmax_agreement" ? value >= limit : value <= limit
        }
    }

    /// Every measure, in the order of recordings and steps.
    public let findings: [Finding]
    /// Recordings that could not be run, and why.
    public let errors: [String]

    /// A report.
    public init(findings: [Finding], errors: [String] = []) {
        self.findings = findings
        self.errors = errors
    }

    /// Whether every recording ran and every measure keeps to its limit.
    public var passed: Bool { errors.isEmpty && !findings.isEmpty && findings.allSatisfy(\.passed) }

    /// The first measure that does not keep to its limit: the steps before it are right.
    public var firstOff: Finding? { findings.first { !$0.passed } }

    /// Runs every recording through features, calls, model and greedy words, and compares.
    ///
    /// - Parameters:
    ///   - model: loaded from the artifact.
    ///   - manifest: the artifact's.
    ///   - vectors: the artifact's.
    public static func run(
        _ model: any ASRAcousticModel, manifest: ASRManifest, vectors: ASRVectors
    ) async -> ASRConformanceReport {
        var findings: [Finding] = []
        var errors: [String] = []
        for recording in vectors.recordings {
            do {
                let pass = try await Pass(model, manifest, try vectors.samples(recording))
                findings += try pass.findings(recording, vectors)
            } catch {
                errors.append("\(recording.name): \(error.localizedDescription)")
            }
        }
        return ASRConformanceReport(findings: findings, errors: errors)
    }
}

/// One recording from samples to words, with everything in between.
struct Pass: Sendable {
    let samples: [Int16]
    let frames: ASRRows
    let windows: ASRRows
    let calls: [ASRCall]
    /// Name of a state's input or output -> its values in each call.
    let states: [String: [[Float]]]
    let rows: ASRRows
    let transcription: ASRTranscription
    /// Milliseconds of each call.
    let times: [Double]

    init(_ model: any ASRAcousticModel, _ manifest: ASRManifest, _ samples: [Int16]) async throws {
        self.samples = samples
        (frames, windows) = try Self.features(samples, manifest)
        let observer = Observer(model, manifest)
        var stream = try ASRAcousticStream(model: observer, manifest: manifest)
        var rows = try await stream.feed(windows)
        rows.append(try await stream.finish())
        var decoder = try ASRDecoder(.greedy, manifest)
        try decoder.feed(rows)
        self.rows = rows
        calls = stream.calls
        transcription = try decoder.transcription
        states = await observer.states
        times = await observer.times
    }

    static func features(
        _ samples: [Int16], _ manifest: ASRManifest
    ) throws -> (frames: ASRRows, windows: ASRRows) {
        let frontEnd = ASRFrontEnd(try ASRFeatures(manifest))
        var stream = ASRFeatureStream(frontEnd)
        var windows = try stream.push(samples)
        windows.append(try stream.finish())
        return (frontEnd.frames(of: samples), windows)
    }

    /// Passes calls on to a model, and keeps states and times. One call follows another.
    private actor Observer: ASRAcousticModel {
        private let model: any ASRAcousticModel
        private let pairs: [ASRManifest.State]
        private(set) var states: [String: [[Float]]] = [:]
        private(set) var times: [Double] = []

        init(_ model: any ASRAcousticModel, _ manifest: ASRManifest) {
            self.model = model
            pairs = manifest.state.filter { $0.kind == .explicit }
        }

        nonisolated func makeState() throws -> (any ASRModelState)? { try model.makeState() }

        func predict(
            _ inputs: [String: ASRTensor], state: (any ASRModelState)?
        ) async throws -> [String: ASRTensor] {
            let start = DispatchTime.now().uptimeNanoseconds
            let outputs = try await model.predict(inputs, state: state)
            times.append(max(1e-6, Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6))
            for pair in pairs {
                states[pair.input, default: []].append(inputs[pair.input]?.values ?? [])
                states[pair.output, default: []].append(outputs[pair.output]?.values ?? [])
            }
            return outputs
        }
    }
}

extension Pass {
    /// Every measure of every step of a recording.
    func findings(
        _ recording: ASRVectors.Recording, _ vectors: ASRVectors
    ) throws -> [ASRConformanceReport.Finding] {
        try vectors.steps.flatMap { step in
            try measures(step, recording, vectors).map { measure, value in
                ASRConformanceReport.Finding(
                    recording: recording.name, step: step.name, measure: measure,
                    // JSON has no infinity and no NaN.
                    value: value.isFinite ? value : Double.greatestFiniteMagnitude,
                    limit: step.limits?[measure] ?? 0
                )
            }
        }
    }

    private func measures(
        _ step: ASRVectors.Step, _ recording: ASRVectors.Recording, _ vectors: ASRVectors
    ) throws -> [(String, Double)] {
        switch step.kind {
        case "samples":
            let bytes = samples.flatMap { sample -> [UInt8] in
                let bits = UInt16(bitPattern: sample)
                return [UInt8(bits & 255), UInt8(bits >> 8)]
            }
            let same = SHA256.hex(bytes) == recording.samplesSHA256
            return [("differences", same && samples.count == recording.samples ? 0 : 1)]
        case "frames":
            let expected = try vectors.rows(recording, step.name)
            let found = step.name == "mfcc" ? frames : windows
            return [("max_abs_error", Double(largestError(found.values, expected.values)))]
        case "calls":
            let expected = recording.calls.map(\.call)
            let wrong = zip(calls, expected).filter { $0 != $1 }.count
            return [("differences", Double(wrong + abs(calls.count - expected.count)))]
        case "state":
            return [("max_abs_error_of_peak", try stateError(step, recording, vectors))]
        case "probabilities":
            return try probabilityErrors(step, try vectors.rows(recording, step.name))
        case "text":
            return [("differences", transcription.text == recording.text ? 0 : 1)]
        case "words":
            return wordErrors(recording.words)
        default:
            throw ASRError.unsupported("the step \(step.name) of kind \(step.kind)")
        }
    }

    private func stateError(
        _ step: ASRVectors.Step, _ recording: ASRVectors.Recording, _ vectors: ASRVectors
    ) throws -> Double {
        let expected = try vectors.rows(recording, step.name)
        let found = states[step.name] ?? []
        guard found.count == expected.count else { return .infinity }
        var largest = 0.0
        for call in 0..<found.count {
            let wanted = Array(expected[call])
            var peak: Float = 1
            for value in wanted { peak = max(peak, abs(value)) }
            largest = max(largest, Double(largestError(found[call], wanted) / peak))
        }
        return largest
    }

    private func probabilityErrors(
        _ step: ASRVectors.Step, _ expected: ASRRows
    ) throws -> [(String, Double)] {
        let (agreement, divergence) = ("argmax_agreement", "kl_divergence")
        let error = Double(largestError(rows.values, expected.values))
        guard error.isFinite, expected.count > 0 else {
            let none = expected.count == 0 && rows.count == 0
            let far = none ? 0 : Double.infinity
            return [("max_abs_error", far), (agreement, none ? 1 : 0), (divergence, far)]
        }
        let tie = Float(step.limits?["argmax_tie"] ?? 0)
        var (agreeing, largest) = (0, 0.0)
        for row in 0..<expected.count {
            let (wanted, found) = (Array(expected[row]), Array(rows[row]))
            let best = found.indices.max { found[$0] < found[$1] } ?? 0
            if wanted[best] >= (wanted.max() ?? 0) * (1 - tie) { agreeing += 1 }
            largest = max(largest, Self.divergence(wanted, found))
        }
        return [
            ("max_abs_error", error), (agreement, Double(agreeing) / Double(expected.count)),
            (divergence, largest),
        ]
    }

    /// The Kullback-Leibler divergence of two rows, in nats, as asrbuild's gates compute it.
    private static func divergence(_ wanted: [Float], _ found: [Float]) -> Double {
        let p: [Double] = wanted.map { max(Double($0), 1.2e-7) }
        let q: [Double] = found.map { max(Double($0), 1.2e-7) }
        let wholeP: Double = p.reduce(0, +)
        let wholeQ: Double = q.reduce(0, +)
        var sum = 0.0
        for index in p.indices {
            let share = p[index] / wholeP
            sum += share * log(share / (q[index] / wholeQ))
        }
        return sum
    }

    private func wordErrors(_ expected: [ASRWord]) -> [(String, Double)] {
        let found = transcription.words
        let wrong = zip(found, expected).filter { $0.text != $1.text }.count
        var (time, confidence) = (0.0, 0.0)
        for (word, wanted) in zip(found, expected) {
            time = max(time, abs(word.start - wanted.start), abs(word.end - wanted.end))
            confidence = max(confidence, abs(word.confidence - wanted.confidence))
        }
        return [
            ("differences", Double(wrong + abs(found.count - expected.count))),
            // Printed with nine digits in the vectors.
            ("time_s", max(0, time - 1e-9)),
            ("confidence", confidence),
        ]
    }
}
