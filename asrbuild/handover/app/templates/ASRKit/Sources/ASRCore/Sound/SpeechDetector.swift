import Foundation

/// Finds where speech begins and ends by its energy, and when an utterance is over.
///
/// Frames of 20 ms are compared with the noise between words, which is followed as it changes. It
/// suits one speaker near a microphone; music or other voices count as speech.
public struct ASRSpeechDetector: Sendable {
    /// A change that was detected; times are seconds from the first sample.
    public enum Event: Equatable, Sendable {
        /// Speech began at this time.
        case began(at: Double)
        /// Speech ended at this time, and the silence that ends an utterance followed.
        case ended(at: Double)
    }

    /// The settings for the beginning of speech and the end of an utterance.
    public struct Settings: Equatable, Sendable {
        /// The level of speech above the noise, in dB.
        public var margin = 9.0
        /// The quietest speech, in dB of full scale.
        public var quietest = -55.0
        /// The shortest sound that is speech, in seconds: a click is shorter.
        public var shortest = 0.06
        /// The silence that ends an utterance, in seconds: pauses between words are shorter.
        public var silence = 0.8

        /// Settings for dictation.
        public init() {}
    }

    /// Whether an utterance is going on.
    public private(set) var speaking = false
    /// The level of the last frame, in dB of full scale: a meter shows it.
    public private(set) var level = -100.0
    private let settings: Settings
    private let sampleRate: Int
    private let frame: Int
    private var waiting: [Float] = []
    private var frames = 0
    /// The level of the noise.
    private var noise: Double?
    /// Loud frames in a row, and quiet ones.
    private var loud = 0
    private var quiet = 0
    /// The last input and output of the filter that takes constant parts and hum away.
    private var before: (input: Float, output: Float) = (0, 0)

    /// - Throws: `ASRError.unsupported` for a rate outside of 1 to 768 kHz.
    public init(sampleRate: Int, settings: Settings = Settings()) throws {
        guard (1_000...768_000).contains(sampleRate) else {
            throw ASRError.unsupported("\(sampleRate) samples a second")
        }
        self.sampleRate = sampleRate
        self.settings = settings
        frame = sampleRate / 50
    }

    /// Takes samples between -1 and 1; returns what began and ended. Pieces make no difference.
    public mutating func push(_ samples: [Float]) -> [Event] {
        waiting += samples
        var events: [Event] = []
        var start = 0
        while start + frame <= waiting.count {
            if let event = take(waiting[start..<start + frame]) { events.append(event) }
            start += frame
        }
        waiting.removeFirst(start)
        return events
    }

    /// The recording is over: ends speech that is going on.
    public mutating func finish() -> Event? {
        guard speaking else { return nil }
        speaking = false
        let event = Event.ended(at: time(frames - quiet))
        (loud, quiet) = (0, 0)
        return event
    }

    private func time(_ frames: Int) -> Double { Double(frames * frame) / Double(sampleRate) }

    private mutating func take(_ samples: ArraySlice<Float>) -> Event? {
        let keep = Float(exp(-2 * Double.pi * 80 / Double(sampleRate)))
        var energy = 0.0
        for sample in samples {
            let input = sample.isFinite ? sample : 0
            let output = keep * (before.output + input - before.input)
            before = (input, output)
            energy += Double(output * output)
        }
        level = max(-100, 10 * log10(max(energy / Double(frame), 1e-10)))
        frames += 1
        // Where a recording begins with speech, its noise is not known yet.
        var floor = noise ?? min(max(level, -70), -40)
        let isLoud = level > max(floor + settings.margin, settings.quietest)
        // Noise is at once as low as the quietest frame, and rises slowly: words are short.
        let rise = isLoud ? 0.04 : 0.2
        floor = level < floor ? floor + 0.5 * (level - floor) : min(level, floor + rise)
        noise = max(floor, -80)
        loud = isLoud ? loud + 1 : 0
        quiet = isLoud ? 0 : quiet + 1
        if !speaking && time(loud) >= settings.shortest {
            speaking = true
            return .began(at: time(frames - loud))
        }
        if speaking && time(quiet) >= settings.silence {
            speaking = false
            return .ended(at: time(frames - quiet))
        }
        return nil
    }
}
