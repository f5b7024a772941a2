/// Sound as a device gives it, turned into one channel at the rate of a model.
///
/// The rate and the channels may change between two pieces, as they do when headphones are plugged in.
public struct ASRSoundConverter: Sendable {
    /// Samples a second of the result.
    public let rate: Int
    private var resampler: ASRResampler?

    /// - Throws: `ASRError.unsupported` for a rate outside of 1 to 768 kHz.
    public init(to rate: Int) throws {
        self.rate = rate
        _ = try ASRResampler(from: rate, to: rate)
    }

    /// Takes a piece of each channel at a rate; returns the samples that became complete.
    ///
    /// - Throws: `ASRError.badAudio` where the channels have not the same number of samples.
    public mutating func push(_ channels: [[Float]], rate: Int) throws -> [Float] {
        guard let first = channels.first else { return [] }
        guard channels.allSatisfy({ $0.count == first.count }) else {
            throw ASRError.badAudio("channels of different lengths")
        }
        var rest: [Float] = []
        if resampler?.inputRate != rate {
            rest = try finish()
            resampler = try ASRResampler(from: rate, to: self.rate)
        }
        let share = Float(channels.count)
        let mixed = channels.count == 1
            ? first : first.indices.map { index in channels.reduce(0) { $0 + $1[index] } / share }
        return rest + (try resampler?.push(mixed) ?? [])
    }

    /// The samples that were still waiting. More may follow.
    public mutating func finish() throws -> [Float] {
        defer { resampler = nil }
        return try resampler?.finish() ?? []
    }
}

/// The reactions of a microphone to interruptions and changes of its input.
package struct CaptureState: Sendable {
    /// An event of a microphone.
    package enum Event: Equatable, Sendable {
        case begin
        /// A call or an alarm took the input.
        case interrupted
        /// It gave it back; `resumes`: the system says that the app may go on.
        case interruptionEnded(resumes: Bool)
        /// Another input, or another rate: the engine has stopped.
        case inputChanged
        /// The system's audio services were restarted: everything made before is dead.
        case servicesReset
        case end
    }

    /// The actions for an event, in order.
    package enum Action: Equatable, Sendable {
        case activate, start, stop, renew, deactivate
        /// The utterance ends as if the user had stopped: its words are not lost.
        case finish
    }

    private enum State: Sendable { case idle, running, interrupted, ended }

    private var state = State.idle

    package init() {}

    /// The actions for an event.
    package mutating func react(to event: Event) -> [Action] {
        switch (state, event) {
        case (.idle, .begin):
            state = .running
            return [.activate, .start]
        case (.running, .interrupted):
            state = .interrupted
            return [.stop]
        case (.interrupted, .interruptionEnded(let resumes)):
            state = resumes ? .running : .ended
            return resumes ? [.activate, .start] : [.finish, .deactivate]
        case (.running, .inputChanged):
            return [.stop, .start]
        case (.running, .servicesReset), (.interrupted, .servicesReset):
            state = .running
            return [.renew, .activate, .start]
        case (.running, .end), (.interrupted, .end):
            state = .ended
            return [.stop, .deactivate]
        case (.idle, .end):
            state = .ended
            return []
        default:
            return []
        }
    }
}
