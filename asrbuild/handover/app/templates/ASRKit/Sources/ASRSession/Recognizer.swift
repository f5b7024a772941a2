import ASRCore

/// An event that a recognizer reports during an utterance.
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

    /// - Parameter load: loads the model; called once, off the caller's thread.
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
    /// Nothing runs ahead of the reader: the next piece is asked for when the one before is done and
    /// the reader waits, so a source that makes pieces on demand waits too, and memory stays bounded.
    /// Cancelling the task that reads the events, or leaving its loop, ends the work.
    ///
    /// - Parameter pieces: mono samples between -1 and 1 at the manifest's rate, in any pieces.
    public nonisolated func events<Pieces: AsyncSequence & Sendable>(
        of pieces: Pieces
    ) -> ASREvents<Pieces> where Pieces.Element == [Float] {
        ASREvents(recognizer: self, pieces: pieces)
    }
}

/// The events of one utterance, made while they are read.
public struct ASREvents<Pieces: AsyncSequence & Sendable>: AsyncSequence, Sendable
where Pieces.Element == [Float] {
    /// The events of an utterance.
    public typealias Element = ASREvent

    fileprivate let recognizer: ASRRecognizer
    fileprivate let pieces: Pieces

    /// Begins an utterance.
    public func makeAsyncIterator() -> Iterator {
        Iterator(recognizer: recognizer, pieces: pieces.makeAsyncIterator())
    }

    /// One reading of the events.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let recognizer: ASRRecognizer
        fileprivate var pieces: Pieces.AsyncIterator
        private var utterance: ASRUtterance?
        private var last = ""
        private var over = false

        fileprivate init(recognizer: ASRRecognizer, pieces: Pieces.AsyncIterator) {
            self.recognizer = recognizer
            self.pieces = pieces
        }

        /// The next event; nil after the final one.
        public mutating func next() async throws -> ASREvent? {
            guard !over else { return nil }
            do {
                let utterance = try await begun()
                while let piece = try await pieces.next() {
                    let text = try await utterance.push(piece)
                    guard text == last else {
                        last = text
                        return .partial(text)
                    }
                }
                // Cancelling ends many sequences as if there were no more.
                try Task.checkCancellation()
                over = true
                return .final(try await utterance.finish())
            } catch {
                over = true
                throw error
            }
        }

        private mutating func begun() async throws -> ASRUtterance {
            if let utterance = utterance { return utterance }
            let begun = try await recognizer.prepare().utterance()
            utterance = begun
            return begun
        }
    }
}
