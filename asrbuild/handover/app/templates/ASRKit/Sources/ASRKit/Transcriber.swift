/// Transcribes utterances with a package as its manifest specifies.
public struct Transcriber {
    public let manifest: ASRManifest
    public let settings: FeatureSettings
    private let mfcc: MFCC
    private let model: any AcousticModel

    /// - Throws: `ASRError.unsupported` when the manifest asks for a decoder with a language model
    ///   or a beam, and `greedy` is not set: greedy words are then not the words of the proof.
    public init(manifest: ASRManifest, model: any AcousticModel, greedy: Bool = false) throws {
        guard greedy || manifest.decoder.type == .greedy else {
            throw ASRError.unsupported(
                "decoder \(manifest.decoder.type.rawValue); pass greedy: true to do without"
            )
        }
        self.manifest = manifest
        self.model = model
        settings = try FeatureSettings(manifest)
        mfcc = MFCC(settings)
        let shape = manifest.model.inputs.first { $0.meaning == .features }?.shape.map(\.default)
        guard shape?.dropFirst(2) == [2 * settings.context + 1, settings.coefficients] else {
            throw ASRError.contradiction("features and the package's input")
        }
    }

    /// A new utterance; its state starts from zeros.
    public func utterance() throws -> Utterance {
        Utterance(
            features: FeatureStream(mfcc),
            acoustic: try AcousticStream(model: model, manifest: manifest),
            decoder: try GreedyDecoder(manifest)
        )
    }

    /// A whole recording: mono, at `settings.sampleRate`.
    public func transcribe(_ samples: [Int16]) throws -> Transcription {
        let utterance = try utterance()
        // A second at a time: the windows of a long recording are large.
        for start in Swift.stride(from: 0, to: samples.count, by: settings.sampleRate) {
            let end = min(start + settings.sampleRate, samples.count)
            _ = try utterance.push(Array(samples[start..<end]))
        }
        return try utterance.finish()
    }
}

/// One utterance in progress: takes samples, returns the text so far.
///
/// It is not safe to use from two threads at once: keep it in an actor or on one queue.
public final class Utterance {
    private var features: FeatureStream
    private let acoustic: AcousticStream
    private var decoder: GreedyDecoder

    init(features: FeatureStream, acoustic: AcousticStream, decoder: GreedyDecoder) {
        self.features = features
        self.acoustic = acoustic
        self.decoder = decoder
    }

    /// Takes more samples; returns the text so far.
    public func push(_ samples: [Int16]) throws -> String {
        try decoder.feed(try acoustic.feed(try features.push(samples)))
    }

    /// Takes more samples between -1 and 1, as `AVAudioEngine` gives them; returns the text so far.
    public func push(_ samples: [Float]) throws -> String {
        try push(try samples.map(pcm))
    }

    /// Ends the utterance: runs the remaining steps.
    public func finish() throws -> Transcription {
        _ = try decoder.feed(try acoustic.feed(try features.finish()))
        _ = try decoder.feed(try acoustic.finish())
        return decoder.transcription
    }
}

/// A sample between -1 and 1 as Int16, rounded and clipped.
func pcm(_ sample: Float) throws -> Int16 {
    guard sample.isFinite else { throw ASRError.badSamples }
    let scaled = (sample * 32768).rounded(.toNearestOrEven)
    return Int16(min(max(scaled, -32768), 32767))
}
