/// A recording in pieces of one channel at the rate of a model, each read when it is asked for.
public struct ASRPieces: AsyncSequence, Sendable {
    /// A piece of samples between -1 and 1.
    public typealias Element = [Float]
    /// Gives the next piece of each channel with its rate; nil at the end.
    package typealias Reader = () throws -> (channels: [[Float]], rate: Int)?

    private let rate: Int
    private let open: @Sendable () throws -> Reader

    /// - Parameter open: opens the recording, once for each loop over the pieces.
    package init(at rate: Int, open: @escaping @Sendable () throws -> Reader) {
        self.rate = rate
        self.open = open
    }

    /// Begins with the first piece.
    public func makeAsyncIterator() -> Iterator { Iterator(rate: rate, open: open) }

    /// Pieces one after the other.
    public struct Iterator: AsyncIteratorProtocol {
        private let rate: Int
        private let open: () throws -> Reader
        private var read: Reader?
        private var converter: ASRSoundConverter?
        private var over = false

        fileprivate init(rate: Int, open: @escaping () throws -> Reader) {
            self.rate = rate
            self.open = open
        }

        /// The next piece; nil at the end of the recording.
        public mutating func next() async throws -> [Float]? {
            try Task.checkCancellation()
            while !over {
                let read = try self.read ?? open()
                self.read = read
                var converter = try self.converter ?? ASRSoundConverter(to: rate)
                let piece = try read()
                over = piece == nil
                let made = try piece.map { try converter.push($0.channels, rate: $0.rate) }
                    ?? converter.finish()
                self.converter = converter
                if !made.isEmpty { return made }
            }
            return nil
        }
    }
}

extension ASRWaveFile {
    /// The file in pieces at the rate of a model.
    ///
    /// - Parameter seconds: how long a piece is.
    public func pieces(at rate: Int, seconds: Double = 1) -> ASRPieces {
        let size = max(1, Int(seconds * Double(sampleRate)))
        return ASRPieces(at: rate) {
            var start = 0
            return {
                guard start < count else { return nil }
                defer { start += size }
                return ([try samples(start..<start + size)], sampleRate)
            }
        }
    }
}

extension AsyncSequence where Self: Sendable, Element == [Float] {
    /// These pieces up to the end of the first utterance: a microphone that stops by itself.
    ///
    /// - Parameter detector: says when speech is over; it takes samples at the rate of the pieces.
    public func firstUtterance(_ detector: ASRSpeechDetector) -> ASRFirstUtterance<Self> {
        ASRFirstUtterance(base: self, detector: detector)
    }
}

/// Pieces of sound up to the silence after the first speech; see `firstUtterance`.
public struct ASRFirstUtterance<Base: AsyncSequence & Sendable>: AsyncSequence, Sendable
where Base.Element == [Float] {
    /// A piece of samples.
    public typealias Element = [Float]

    fileprivate let base: Base
    fileprivate let detector: ASRSpeechDetector

    /// Begins with the first piece.
    public func makeAsyncIterator() -> Iterator {
        Iterator(base: base.makeAsyncIterator(), detector: detector)
    }

    /// Pieces one after the other.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate var base: Base.AsyncIterator
        fileprivate var detector: ASRSpeechDetector
        fileprivate var over = false

        /// The next piece; nil when the utterance is over.
        public mutating func next() async throws -> [Float]? {
            guard !over, let piece = try await base.next() else { return nil }
            over = detector.push(piece).contains { event in
                if case .ended = event { true } else { false }
            }
            return piece
        }
    }
}
