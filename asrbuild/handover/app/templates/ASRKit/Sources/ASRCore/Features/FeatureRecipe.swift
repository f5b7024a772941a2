/// The recipe from samples to a package's input: the manifest's `audio` and `features`, checked.
///
/// One of five recipes; a value that a recipe does not use has no meaning.
public struct ASRFeatures: Equatable, Sendable {
    /// A recipe, by its name in manifests.
    public enum Kind: String, CaseIterable, Sendable {
        /// MFCC as TensorFlow's `AudioSpectrogram` and `Mfcc` kernels compute them: DeepSpeech's.
        case mfcc = "mfcc_tf"
        /// Whisper's log mel spectrogram.
        case whisper = "log_mel_whisper"
        /// NeMo's log mel spectrogram.
        case nemo = "log_mel_nemo"
        /// Kaldi's filter banks, without dither.
        case kaldi = "fbank_kaldi"
        /// Samples as they are.
        case samples = "none"
    }

    /// The recipe.
    public let kind: Kind
    /// Whether the package computes the features itself and takes samples.
    public private(set) var inPackage = false
    /// Samples a second.
    public let sampleRate: Int
    /// The factor of an Int16 sample.
    public private(set) var sampleScale: Float = 1 / 32_768
    /// Samples in a frame.
    public private(set) var window = 400
    /// Samples between the starts of two frames.
    public private(set) var stride = 160
    /// Points of the Fourier transform.
    public private(set) var fftSize = 512
    /// Mel bands.
    public private(set) var melBands = 80
    /// The lower edge of the first band.
    public private(set) var lowerHz = 0.0
    /// The upper edge of the last band.
    public private(set) var upperHz: Double
    /// The share of the previous sample that is subtracted from each.
    public private(set) var preemphasis = 0.97
    /// Kaldi's factor of samples in [-1, 1].
    public private(set) var kaldiScale = 32_768.0
    /// Of MFCC the smallest value of a band before the logarithm; of NeMo what is added to each.
    public private(set) var logFloor = 0x1p-24
    /// Whether NeMo's bands have mean 0 and deviation 1 over the recording.
    public private(set) var normalized = true
    /// Of MFCC: coefficients that are kept of each frame.
    public private(set) var coefficients = 1
    /// Of MFCC: frames of context on each side of a step's own frame.
    public private(set) var context = 0

    /// A recipe with its usual values: those of DeepSpeech, Whisper, NeMo, and WeNet.
    public init(_ kind: Kind, sampleRate: Int = 16_000) {
        self.kind = kind
        self.sampleRate = sampleRate
        upperHz = Double(sampleRate) / 2
        switch kind {
        case .mfcc:
            (window, stride, melBands, coefficients, context) = (512, 320, 40, 26, 9)
            (lowerHz, logFloor) = (20, 1e-12)
        case .whisper: fftSize = window
        case .nemo: break
        case .kaldi: lowerHz = 20
        case .samples: (inPackage, window, stride) = (true, 1, 1)
        }
    }

    /// Reads the sections `audio` and `features` of a manifest.
    ///
    /// - Throws: `ASRError.unsupported` for a recipe or a value that is not known,
    ///   `ASRError.contradiction` for values that no sound has.
    public init(_ manifest: ASRManifest) throws {
        let (audio, section) = (manifest.audio, manifest.features)
        let settings = section.settings ?? [:]
        func number(_ name: String, _ own: Double? = nil) -> Double? {
            guard case .number(let value)? = settings[name] else { return own }
            return value
        }
        func whole(_ name: String, _ own: Int? = nil) throws -> Int? {
            guard let value = number(name) else { return own }
            guard let whole = Int(exactly: value) else {
                throw ASRError.contradiction("features with a \(name) of \(value)")
            }
            return whole
        }
        // Version 1 has one recipe, whose name there is shorter.
        let name = section.kind == .mfcc ? Kind.mfcc.rawValue : section.kind.rawValue
        guard let kind = Kind(rawValue: name) else {
            throw ASRError.unsupported("features of the kind \(name)")
        }
        guard audio.channels == 1 else { throw ASRError.unsupported("\(audio.channels) channels") }
        self.init(kind, sampleRate: audio.sampleRate)
        inPackage = inPackage || section.place == .package
        sampleScale = Float(audio.sampleScale)
        window = try whole("window", section.windowSamples) ?? window
        stride = try whole("stride", section.stepSamples) ?? stride
        let size = kind == .whisper ? window : Self.powerOfTwo(window)
        fftSize = try whole("fft_size", section.fftSize) ?? size
        melBands = try whole("n_mels", section.melBands) ?? melBands
        lowerHz = number("lower_hz", section.lowerHz) ?? lowerHz
        upperHz = number("upper_hz", section.upperHz) ?? upperHz
        preemphasis = number("preemphasis") ?? preemphasis
        kaldiScale = number("sample_scale") ?? kaldiScale
        logFloor = number("log_floor", section.logFloor) ?? logFloor
        coefficients = section.coefficients ?? coefficients
        context = section.contextFrames ?? context
        switch settings["normalize"] {
        case nil, .string("per_feature"): normalized = true
        case .string("none"): normalized = false
        default: throw ASRError.unsupported("features that are normalised in another way")
        }
        try check(rate: try whole("sample_rate") ?? sampleRate)
    }

    private func check(rate: Int) throws {
        guard rate == sampleRate else {
            throw ASRError.contradiction("\(rate) samples a second, features of \(sampleRate)")
        }
        guard (1...768_000).contains(rate), (1...1 << 20).contains(window), stride > 0,
            stride <= window, (1...4096).contains(melBands), (0...1000).contains(context),
            coefficients > 0, coefficients <= max(melBands, 1), sampleScale > 0,
            logFloor > 0, lowerHz >= 0, lowerHz < upperHz, upperHz <= Double(rate) / 2
        else { throw ASRError.contradiction("features") }
        let fits: Bool
        switch kind {
        case .mfcc, .kaldi: fits = fftSize == Self.powerOfTwo(window)
        case .whisper: fits = fftSize == window
        case .nemo: fits = (window...1 << 20).contains(fftSize)
        case .samples: fits = true
        }
        guard fits else {
            throw ASRError.contradiction("a window of \(window) samples, an FFT of \(fftSize)")
        }
    }

    /// The smallest power of two that is not smaller.
    private static func powerOfTwo(_ size: Int) -> Int {
        var power = 1
        while power < size { power *= 2 }
        return power
    }

    /// Whether frames are around their sample, so that half a window is made up at both ends.
    var centred: Bool { kind == .whisper || kind == .nemo }

    /// Values of one step: of MFCC its frame and the frames of context.
    public var width: Int {
        if inPackage { return 1 }
        return kind == .mfcc ? (2 * context + 1) * coefficients : melBands
    }

    /// Seconds from one step to the next.
    public var stepSeconds: Double { Double(inPackage ? 1 : stride) / Double(sampleRate) }

    /// Steps of so many samples.
    public func steps(samples: Int) -> Int {
        if inPackage { return samples }
        if centred { return samples / stride }
        return samples < window ? 0 : 1 + (samples - window) / stride
    }
}
