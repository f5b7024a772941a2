import Foundation

/// The manifest's `audio` and `features` sections, checked.
public struct ASRFeatureSettings: Equatable, Sendable {
    /// Samples a second.
    public let sampleRate: Int
    /// The factor of an Int16 sample.
    public let sampleScale: Float
    /// Samples in a frame, and between the starts of two frames.
    public let window: Int
    public let stride: Int
    public let fftSize: Int
    public let melBands: Int
    public let lowerHz: Double
    public let upperHz: Double
    /// Cepstral coefficients kept of each frame.
    public let coefficients: Int
    /// Smallest band value before the logarithm.
    public let logFloor: Double
    /// Frames of context on each side of a step's own frame.
    public let context: Int

    public init(_ manifest: ASRManifest) throws {
        let audio = manifest.audio
        let features = manifest.features
        sampleRate = audio.sampleRate
        sampleScale = Float(audio.sampleScale)
        guard let window = features.windowSamples, let stride = features.stepSamples,
            let fftSize = features.fftSize, let melBands = features.melBands,
            let lowerHz = features.lowerHz, let upperHz = features.upperHz,
            let coefficients = features.coefficients, let logFloor = features.logFloor,
            let context = features.contextFrames, features.place != .package
        else { throw ASRError.unsupported("features of the kind \(features.kind.rawValue)") }
        self.window = window
        self.stride = stride
        self.fftSize = fftSize
        self.melBands = melBands
        self.lowerHz = lowerHz
        self.upperHz = upperHz
        self.coefficients = coefficients
        self.logFloor = logFloor
        self.context = context
        guard audio.channels == 1 else {
            throw ASRError.unsupported("\(audio.channels) channels")
        }
        guard sampleRate > 0, stride > 0, stride <= window, context >= 0,
            coefficients > 0, coefficients <= melBands, logFloor > 0,
            lowerHz >= 0, lowerHz < upperHz, upperHz <= Double(sampleRate) / 2
        else {
            throw ASRError.contradiction("features")
        }
        var power = 1
        while power < window { power *= 2 }
        guard fftSize == power, fftSize > 1 else {
            throw ASRError.contradiction("a window of \(window) samples, an FFT of \(fftSize)")
        }
    }

    /// Values of one step: its frame and the frames of context.
    public var windowWidth: Int { (2 * context + 1) * coefficients }

    /// Seconds from one step to the next.
    public var stepSeconds: Double { Double(stride) / Double(sampleRate) }

    /// Frames, which are model steps, of so many samples.
    public func steps(samples: Int) -> Int {
        samples < window ? 0 : 1 + (samples - window) / stride
    }
}

/// MFCC as TensorFlow's `AudioSpectrogram` and `Mfcc` kernels compute them, in double precision.
public struct ASRMFCC: Sendable {
    public let settings: ASRFeatureSettings
    private let hann: [Double]
    private let fft: FFT
    /// For each bin in use: its index, the band above it, and its share of the band below.
    private let bins: [(bin: Int, upper: Int, falling: Double)]
    /// Discrete cosine transform, one row of `melBands` values for each coefficient.
    private let cosines: [Double]

    public init(_ settings: ASRFeatureSettings) {
        self.settings = settings
        hann = (0..<settings.window).map {
            0.5 - 0.5 * cos(2 * Double.pi * Double($0) / Double(settings.window))
        }
        fft = FFT(size: settings.fftSize)
        bins = Self.melBins(settings)
        let bands = settings.melBands
        let scale = sqrt(2 / Double(bands))
        cosines = (0..<settings.coefficients).flatMap { row in
            (0..<bands).map { band in
                scale * cos(Double.pi / Double(bands) * (Double(band) + 0.5) * Double(row))
            }
        }
    }

    /// Int16 samples to frames of coefficients; a remainder shorter than a frame is left out.
    public func callAsFunction(_ samples: [Int16]) -> ASRRows {
        var frames = ASRRows(width: settings.coefficients)
        for frame in 0..<settings.steps(samples: samples.count) {
            let start = frame * settings.stride
            frames.append(coefficients(of: samples[start..<start + settings.window]))
        }
        return frames
    }

    private func coefficients(of samples: ArraySlice<Int16>) -> [Float] {
        var real = [Double](repeating: 0, count: settings.fftSize)
        for (index, sample) in samples.enumerated() {
            real[index] = Double(Float(sample) * settings.sampleScale) * hann[index]
        }
        let magnitudes = fft.magnitudes(of: real)
        // Indices 0 and melBands + 1 are the two outer edges, not bands.
        var bands = [Double](repeating: 0, count: settings.melBands + 2)
        for (bin, upper, falling) in bins {
            bands[upper - 1] += falling * magnitudes[bin]
            bands[upper] += (1 - falling) * magnitudes[bin]
        }
        let logs = bands[1...settings.melBands].map { log(max($0, settings.logFloor)) }
        return (0..<settings.coefficients).map { row in
            var sum = 0.0
            for band in 0..<settings.melBands {
                sum += logs[band] * cosines[row * settings.melBands + band]
            }
            return Float(sum)
        }
    }

    /// Triangular bands on the mel scale. The bin range is TensorFlow's: the constant part is left
    /// out, and the first bin is rounded from the lower edge.
    private static func melBins(
        _ settings: ASRFeatureSettings
    ) -> [(bin: Int, upper: Int, falling: Double)] {
        let low = mel(settings.lowerHz)
        let high = mel(settings.upperHz)
        let count = settings.melBands + 2
        let edges = (0..<count).map {
            low + (high - low) / Double(settings.melBands + 1) * Double($0)
        }
        let hertzPerBin = 0.5 * Double(settings.sampleRate) / Double(settings.fftSize / 2)
        let first = Int(1.5 + settings.lowerHz / hertzPerBin)
        let last = Int(settings.upperHz / hertzPerBin)
        guard first <= last else { return [] }
        return (first...last).map { bin in
            let value = mel(Double(bin) * hertzPerBin)
            // edges[upper] is the centre of the band above the bin, edges[upper - 1] of the one
            // below.
            var upper = 1
            while upper < settings.melBands + 1 && edges[upper] < value { upper += 1 }
            let falling = (edges[upper] - value) / (edges[upper] - edges[upper - 1])
            return (bin, upper, falling)
        }
    }

    private static func mel(_ hertz: Double) -> Double { 1127 * log1p(hertz / 700) }
}

/// A fast Fourier transform of a power of two, in double precision.
struct FFT: Sendable {
    private let size: Int
    private let reversed: [Int]
    private let cosines: [Double]
    private let sines: [Double]

    init(size: Int) {
        precondition(size > 1 && size & (size - 1) == 0, "the size must be a power of two")
        self.size = size
        let bits = size.trailingZeroBitCount
        reversed = (0..<size).map { index in
            (0..<bits).reduce(0) { $0 | ((index >> $1) & 1) << (bits - 1 - $1) }
        }
        cosines = (0..<size / 2).map { cos(2 * Double.pi * Double($0) / Double(size)) }
        sines = (0..<size / 2).map { -sin(2 * Double.pi * Double($0) / Double(size)) }
    }

    /// The magnitudes of bins 0 to size / 2 of a real signal.
    func magnitudes(of signal: [Double]) -> [Double] {
        var real = reversed.map { signal[$0] }
        var imaginary = [Double](repeating: 0, count: size)
        var half = 1
        while half < size {
            let turn = size / (2 * half)
            for start in Swift.stride(from: 0, to: size, by: 2 * half) {
                for offset in 0..<half {
                    let (cosine, sine) = (cosines[offset * turn], sines[offset * turn])
                    let (even, odd) = (start + offset, start + offset + half)
                    let oddReal = real[odd] * cosine - imaginary[odd] * sine
                    let oddImaginary = real[odd] * sine + imaginary[odd] * cosine
                    real[odd] = real[even] - oddReal
                    imaginary[odd] = imaginary[even] - oddImaginary
                    real[even] += oddReal
                    imaginary[even] += oddImaginary
                }
            }
            half *= 2
        }
        return (0...size / 2).map { (real[$0] * real[$0] + imaginary[$0] * imaginary[$0]).squareRoot() }
    }
}

/// Context windows from samples in pieces, equal to those from all samples at once.
///
/// A window is complete `context` frames after its own frame.
public struct ASRFeatureStream {
    private let mfcc: ASRMFCC
    private var samples: [Int16] = []
    /// The left context of the next window, then frames without their whole right context.
    private var frames: ASRRows
    private var finished = false

    public init(_ mfcc: ASRMFCC) {
        self.mfcc = mfcc
        frames = Self.silence(mfcc.settings)
    }

    /// Takes samples; returns the windows that became complete.
    public mutating func push(_ more: [Int16]) throws -> ASRRows {
        guard !finished else { throw ASRError.finished }
        samples += more
        let new = mfcc(samples)
        samples.removeFirst(new.count * mfcc.settings.stride)
        return take(new)
    }

    /// The last windows, with frames of zeros as their right context.
    public mutating func finish() throws -> ASRRows {
        guard !finished else { throw ASRError.finished }
        finished = true
        return take(Self.silence(mfcc.settings))
    }

    private static func silence(_ settings: ASRFeatureSettings) -> ASRRows {
        let zeros = [Float](repeating: 0, count: settings.context * settings.coefficients)
        return ASRRows(width: settings.coefficients, values: zeros)
    }

    private mutating func take(_ new: ASRRows) -> ASRRows {
        let settings = mfcc.settings
        frames.append(new)
        var windows = ASRRows(width: settings.windowWidth)
        let complete = frames.count - 2 * settings.context
        guard complete > 0 else { return windows }
        for first in 0..<complete {
            windows.append(frames[first..<first + 2 * settings.context + 1].values)
        }
        frames.removeFirst(complete)
        return windows
    }
}
