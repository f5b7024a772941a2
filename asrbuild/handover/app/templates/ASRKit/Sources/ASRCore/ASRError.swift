import Foundation

/// An error, described for a developer.
public enum ASRError: Error, Equatable, LocalizedError {
    /// The manifest has another major version than this code.
    case unsupportedSchema(found: String, supported: String)
    /// Two sections of the manifest contradict each other.
    case contradiction(String)
    /// The manifest requires something that this code does not do.
    case unsupported(String)
    /// The package takes no call of so many steps.
    case tooManySteps(steps: Int, limit: Int)
    /// The package's outputs are not those of the manifest.
    case badOutput(String)
    /// A call failed that had the state inside of the package, which is not known any more: start
    /// another utterance.
    case stateLost
    /// A scorer package is damaged, or of another model.
    case badScorer(String)
    /// A file is not what it should be.
    case unreadable(String)
    /// A recording cannot be read.
    case badAudio(String)
    /// The microphone cannot be used.
    case microphone(String)
    /// A sample is not a finite number.
    case badSamples
    /// The utterance is over; start another.
    case finished

    /// The error in a sentence.
    public var errorDescription: String? {
        switch self {
        case .unsupportedSchema(let found, let supported):
            return "the manifest has schema version \(found), this code reads \(supported)"
        case .contradiction(let what): return "the manifest contradicts itself: \(what)"
        case .unsupported(let what): return "not supported: \(what)"
        case .tooManySteps(let steps, let limit):
            return "\(steps) steps do not fit in one call of the package, which takes \(limit)"
        case .badOutput(let what): return "the package gave \(what)"
        case .stateLost: return "a call failed, and with it the state that the package keeps is lost"
        case .badScorer(let what): return "the scorer \(what)"
        case .unreadable(let what): return "not readable: \(what)"
        case .badAudio(let what): return "the recording cannot be read: \(what)"
        case .microphone(let what): return "the microphone cannot be used: \(what)"
        case .badSamples: return "the samples are not all finite numbers"
        case .finished: return "the utterance is finished"
        }
    }
}
