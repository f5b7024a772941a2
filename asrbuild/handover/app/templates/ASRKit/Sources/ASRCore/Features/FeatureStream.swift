/// Features from samples in pieces, equal to those from all samples at once.
///
/// A step of MFCC is complete `context` frames after its own frame. Whisper's features, and NeMo's
/// that are normalised, depend on the whole recording: all of them come at its end.
public struct ASRFeatureStream: Sendable {
    private let frontEnd: ASRFrontEnd
    private var features: ASRFeatures { frontEnd.features }
    private var samples = 0
    /// Frames that were computed.
    private var made = 0
    /// Scaled samples: `kept` that a frame had already, then those from the next frame on. Of centred
    /// frames what is made up before the recording is among them.
    private var waiting: [Double] = []
    private var kept = 0
    /// Whether what is made up before the recording is in `waiting`.
    private var begun: Bool
    /// The sample before, for NeMo's pre-emphasis.
    private var last = 0.0
    /// Of MFCC the left context of the next window, then frames without their whole right context.
    private var frames: ASRRows
    /// Logarithms that wait for the end of the recording.
    private var held: [Double] = []
    private var finished = false

    /// A stream at the start of a recording.
    public init(_ frontEnd: ASRFrontEnd) {
        self.frontEnd = frontEnd
        frames = Self.silence(frontEnd.features)
        begun = frontEnd.features.kind != .whisper
        if frontEnd.features.kind == .nemo { waiting = [Double](repeating: 0, count: edge) }
    }

    /// Takes samples; returns the steps that became complete.
    public mutating func push(_ more: [Int16]) throws -> ASRRows {
        guard !finished else { throw ASRError.finished }
        return take(more)
    }

    /// The last steps, with what a recipe makes up past the end of a recording.
    public mutating func finish() throws -> ASRRows {
        guard !finished else { throw ASRError.finished }
        finished = true
        return end()
    }

    mutating func take(_ more: [Int16]) -> ASRRows {
        samples += more.count
        let scale = features.sampleScale
        if features.inPackage {
            return ASRRows(width: 1, values: more.map { Float($0) * scale })
        }
        if features.kind == .nemo {
            let emphasis = features.preemphasis
            waiting += more.map { sample in
                let value = Double(Float(sample) * scale), before = last
                last = value
                return value - emphasis * before
            }
        } else {
            waiting += more.map { Double(Float($0) * scale) }
        }
        if !begun {
            // The reflected start takes as many samples after the first one.
            guard samples > edge else { return ASRRows(width: features.width) }
            waiting = waiting[1...edge].reversed() + waiting
            begun = true
        }
        return advance(to: complete)
    }

    mutating func end() -> ASRRows {
        let kind = features.kind
        guard !features.inPackage, kind != .kaldi else { return ASRRows(width: features.width) }
        if kind == .mfcc { return windows(of: Self.silence(features)) }
        let count = features.steps(samples: samples)
        if kind == .nemo {
            waiting += [Double](repeating: 0, count: edge)
        } else if begun {
            waiting += waiting.dropLast().suffix(edge).reversed()
        } else if count > 0 {
            // A recording no longer than half a window is reflected several times.
            waiting = (-edge..<samples + edge).map { index in
                let period = max(2 * (samples - 1), 1)
                let place = (index % period + period) % period
                return waiting[min(place, period - place)]
            }
        }
        var rows = advance(to: count)
        if !held.isEmpty {
            rows.append(ASRRows(width: features.melBands, values: kind == .nemo ? normalized : scaled))
        }
        return rows
    }

    /// Samples that are made up at each end.
    private var edge: Int { frontEnd.features.window / 2 }

    /// Frames whose samples are all there, and that the recording has whatever follows.
    private var complete: Int {
        let whole = (waiting.count - kept - features.window) / features.stride
        let ready = waiting.count - kept < features.window ? made : made + whole + 1
        return features.centred ? min(ready, samples / features.stride) : ready
    }

    /// Computes the frames up to `count`; the steps that became complete.
    private mutating func advance(to count: Int) -> ASRRows {
        let new = count - made
        var rows = ASRRows(width: features.width)
        guard new > 0 else { return rows }
        // Only centred frames keep samples, and only a few.
        let from = kept > 0 ? Array(waiting[kept...]) : waiting
        if features.kind == .mfcc {
            rows = windows(of: frontEnd.mfcc(from, frames: new))
        } else {
            let logs = frontEnd.logBands(from, frames: new)
            if features.kind == .whisper || features.kind == .nemo && features.normalized {
                held += logs
            } else {
                rows = ASRRows(width: features.melBands, values: logs.map { Float($0) })
            }
        }
        made = count
        let needed = features.kind == .whisper ? edge + 1 : 0
        kept += new * features.stride
        let gone = max(0, min(kept, waiting.count - needed))
        waiting.removeFirst(gone)
        kept -= gone
        return rows
    }

    private static func silence(_ features: ASRFeatures) -> ASRRows {
        let zeros = [Float](repeating: 0, count: features.context * features.coefficients)
        return ASRRows(width: features.coefficients, values: zeros)
    }

    /// Frames with those on both sides, of the frames that have all of them.
    private mutating func windows(of new: ASRRows) -> ASRRows {
        frames.append(new)
        let complete = frames.count - 2 * features.context
        guard complete > 0 else { return ASRRows(width: features.width) }
        var values: [Float] = []
        values.reserveCapacity(complete * features.width)
        for first in 0..<complete {
            values += frames.values[first * frames.width..<first * frames.width + features.width]
        }
        frames.removeFirst(complete)
        return ASRRows(width: features.width, values: values)
    }

    /// Whisper: no more than 8 below the loudest band of the recording, then scaled.
    private var scaled: [Float] {
        let loudest = held.max() ?? 0
        return held.map { Float((max($0, loudest - 8) + 4) / 4) }
    }

    /// NeMo: each band has mean 0 and deviation 1 over the recording; one frame alone is zeros.
    private var normalized: [Float] {
        let bands = features.melBands, count = held.count / bands
        var sums = [Double](repeating: 0, count: bands)
        for frame in 0..<count {
            for band in 0..<bands { sums[band] += held[frame * bands + band] }
        }
        let means = sums.map { $0 / Double(count) }
        var squares = [Double](repeating: 0, count: bands)
        for frame in 0..<count {
            for band in 0..<bands {
                let distance = held[frame * bands + band] - means[band]
                squares[band] += distance * distance
            }
        }
        let factors = squares.map { square in
            1 / ((count > 1 ? (square / Double(count - 1)).squareRoot() : 0) + 1e-5)
        }
        var values = [Float](repeating: 0, count: held.count)
        for frame in 0..<count {
            for band in 0..<bands {
                let index = frame * bands + band
                values[index] = Float((held[index] - means[band]) * factors[band])
            }
        }
        return values
    }
}
