import ASRCore

/// What a recognizer reports during an utterance.
public enum ASREvent: Equatable, Sendable {
    /// The text so far; sent when it changes.
    case partial(String)
    /// The whole transcript, at the end of the samples.
    case final(ASRTranscription)
}

/// Turns pieces of sound into events, one utterance for each sequence of pieces.
///
/// It loads the model off the caller's thread, at the first use or by `prepare`.
public actor ASRRecognizer {
    private let load: @Sendable () async throws -> ASRTranscriber
    private var loading: Task<ASRTranscriber, any Error>?

    public init(_ load: @escaping @Sendable () async throws -> ASRTranscriber) {
        self.load = load
    }

    /// Loads the model, once. A load that failed is tried again.
    @discardableResult
    public func prepare() async throws -> ASRTranscriber {
        let task = loading ?? Task.detached { [load] in try await load() }
        loading = task
        do { return try await task.value } catch {
            if loading == task { loading = nil }
            throw error
        }
    }

    /// The events of one utterance: partial texts, then the final transcript.
    ///
    /// The next piece is asked for when the one before is done, so a source that makes pieces on
    /// demand waits. Cancelling the task that reads the events, or leaving its loop, ends the work.
    ///
    /// - Parameter pieces: mono samples between -1 and 1 at the manifest's rate, in any pieces.
    public nonisolated func events<Pieces: AsyncSequence & Sendable>(
        of pieces: Pieces
    ) -> AsyncThrowingStream<ASREvent, any Error> where Pieces.Element == [Float] {
        AsyncThrowingStream { continuation in
            let task = Task.detached {
                do {
                    let utterance = try await self.prepare().utterance()
                    var last = ""
                    for try await piece in pieces {
                        let text = try await utterance.push(piece)
                        if text != last { continuation.yield(.partial(text)) }
                        last = text
                    }
                    // Cancelling ends many sequences as if there were no more.
                    try Task.checkCancellation()
                    continuation.yield(.final(try await utterance.finish()))
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }
}
