import ASRCore
import Foundation

/// Transcribes utterances with a package as its manifest specifies.
public struct ASRTranscriber: Sendable {
    /// The manifest that it follows.
    public let manifest: ASRManifest
    /// The recipe that turns samples into features.
    public let settings: ASRFeatures
    private let frontEnd: ASRFrontEnd
    /// The decoder of an utterance that has not begun.
    private let decoder: ASRDecoder
    private let model: any ASRAcousticModel

    /// - Parameters:
    ///   - decoder: how probabilities become words.
    ///   - scorer: the manifest's, where it names one.
    /// - Throws: `ASRError.unsupported` when the manifest names a scorer and none is given.
    public init(
        manifest: ASRManifest, model: any ASRAcousticModel, decoder: ASRDecoderChoice = .manifest,
        scorer: ASRScorer? = nil
    ) throws {
        self.decoder = try ASRDecoder(decoder, manifest, scorer: scorer)
        self.manifest = manifest
        self.model = model
        settings = try ASRFeatures(manifest)
        frontEnd = ASRFrontEnd(settings)
        let shape = manifest.model.inputs.first { $0.meaning == .features }?.shape.map(\.default)
        let window = [2 * settings.context + 1, settings.coefficients]
        // A frame without neighbours may have no axis for them.
        let steps = settings.context > 0 ? [window] : [window, [settings.coefficients]]
        guard
            settings.kind != .mfcc || settings.inPackage
                || steps.contains(where: { shape?.dropFirst(2) == $0[...] })
        else {
            throw ASRError.contradiction("features and the package's input")
        }
    }

    /// A new utterance; its state starts from zeros.
    public func utterance() throws -> ASRUtterance {
        let acoustic = try ASRAcousticStream(model: model, manifest: manifest)
        guard acoustic.width == settings.width else {
            throw ASRError.contradiction("features and the package's input")
        }
        return ASRUtterance(
            features: ASRFeatureStream(frontEnd), acoustic: acoustic,
            decoder: decoder
        )
    }

    /// A whole recording: mono, at `settings.sampleRate`. Cancelling the task ends it.
    ///
    /// - Parameter progress: called with the share that is done, from 0 to 1.
    public func transcribe(
        _ samples: [Int16], progress: (@Sendable (Double) -> Void)? = nil
    ) async throws -> ASRTranscription {
        let utterance = try utterance()
        // A second at a time: the windows of a long recording are large.
        for start in Swift.stride(from: 0, to: samples.count, by: settings.sampleRate) {
            let end = min(start + settings.sampleRate, samples.count)
            _ = try await utterance.push(Array(samples[start..<end]))
            progress?(Double(end) / Double(samples.count))
        }
        return try await utterance.finish()
    }
}

/// One utterance in progress: takes samples, returns the text so far.
///
/// Samples are kept when a call of the package fails or the task is cancelled: the next `push`, of
/// no samples too, and `finish` continue where the utterance was. Both may be called again.
public actor ASRUtterance {
    private var features: ASRFeatureStream
    private var acoustic: ASRAcousticStream
    private var decoder: ASRDecoder
    /// The decoder's time so far: a call for each one of the package, and one for the words.
    public private(set) var decoding = ASRTimings()
    private var ending = false
    private var busy = false
    private var queue: [CheckedContinuation<Void, Never>] = []

    init(features: ASRFeatureStream, acoustic: ASRAcousticStream, decoder: ASRDecoder) {
        self.features = features
        self.acoustic = acoustic
        self.decoder = decoder
    }

    /// The text of the calls made so far.
    public var text: String { decoder.text }

    /// Takes more samples; returns the text so far.
    public func push(_ samples: [Int16]) async throws -> String {
        await begin()
        defer { end() }
        try acoustic.append(try features.push(samples))
        try await advance()
        return decoder.text
    }

    /// Takes more samples between -1 and 1, as `AVAudioEngine` gives them; returns the text so far.
    public func push(_ samples: [Float]) async throws -> String {
        try await push(try samples.map(pcm))
    }

    /// Ends the utterance: runs the remaining steps. Called again, it returns the same.
    public func finish() async throws -> ASRTranscription {
        await begin()
        defer { end() }
        if !ending {
            try acoustic.append(try features.finish())
            ending = true
        }
        try await advance()
        return try timed { try decoder.transcription }
    }

    private func advance() async throws {
        while let request = try acoustic.next(ending: ending) {
            try Task.checkCancellation()
            let answer: ASRAcousticStream.Answer
            do { answer = try await acoustic.answer(request) } catch {
                acoustic.failed()
                throw error
            }
            acoustic.accept(answer, to: request)
            let rows = acoustic.take()
            _ = try timed { try decoder.feed(rows) }
        }
    }

    private func timed<Result>(_ work: () throws -> Result) rethrows -> Result {
        let start = ProcessInfo.processInfo.systemUptime
        defer { decoding.add(ProcessInfo.processInfo.systemUptime - start) }
        return try work()
    }

    /// Waits for the calls before: an actor takes up another one whenever one waits for the model.
    private func begin() async {
        guard busy else {
            busy = true
            return
        }
        await withCheckedContinuation { queue.append($0) }
    }

    private func end() {
        if queue.isEmpty { busy = false } else { queue.removeFirst().resume() }
    }
}
