/// How samples become what a package takes: the manifest's `audio` and `features`, checked.
///
/// One of five recipes; the values that a recipe does not use are those of its default.
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
    public let inPackage: Bool
    /// Samples a second.
    public let sampleRate: Int
    /// The factor of an Int16 sample.
    public let sampleScale: Float
    /// Samples in a frame.
    public let window: Int
    /// Samples between the starts of two frames.
    public let stride: Int
    /// Points of the Fourier transform.
    public let fftSize: Int
    /// Mel bands.
    public let melBands: Int
    /// The lower edge of the first band.
    public let lowerHz: Double
    /// The upper edge of the last band.
    public let upperHz: Double
    /// How much of the sample before is subtracted from each.
    public let preemphasis: Double
    /// Kaldi's factor of samples in [-1, 1].
    public let kaldiScale: Double
    /// Of MFCC the smallest value of a band before the logarithm; of NeMo what is added to each.
    public let logFloor: Double
    /// Whether NeMo's bands have mean 0 and deviation 1 over the recording.
    public let normalized: Bool
    /// Of MFCC: coefficients that are kept of each frame.
    public let coefficients: Int
    /// Of MFCC: frames of context on each side of a step's own frame.
    public let context: Int

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
        self.kind = kind
        inPackage = section.place == .package || kind == .samples
        sampleRate = audio.sampleRate
        sampleScale = Float(audio.sampleScale)
        let one = kind == .samples ? 1 : nil
        window = try whole("window", section.windowSamples) ?? one ?? 400
        stride = try whole("stride", section.stepSamples) ?? one ?? 160
        fftSize = try whole("fft_size", section.fftSize)
            ?? (kind == .whisper ? window : Self.powerOfTwo(window))
        melBands = try whole("n_mels", section.melBands) ?? 80
        lowerHz = number("lower_hz", section.lowerHz) ?? (kind == .kaldi ? 20 : 0)
        upperHz = number("upper_hz", section.upperHz) ?? Double(sampleRate) / 2
        preemphasis = number("preemphasis") ?? 0.97
        kaldiScale = number("sample_scale") ?? 32_768
        logFloor = number("log_floor", section.logFloor) ?? 0x1p-24
        coefficients = section.coefficients ?? 1
        context = section.contextFrames ?? 0
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
