import Foundation

/// Computes the features of a recipe, in double precision.
public struct ASRFrontEnd: Sendable {
    /// The recipe.
    public let features: ASRFeatures
    private let spectra: Spectra
    /// Of MFCC the discrete cosine transform, one row of `melBands` values for each coefficient.
    private let cosines: [Double]

    /// Makes the tables of a recipe.
    public init(_ features: ASRFeatures) {
        self.features = features
        let size = features.window, bins = features.fftSize / 2 + 1
        let period = Double(features.kind == .mfcc || features.kind == .whisper ? size : size - 1)
        let hann = (0..<size).map {
            // A window of one sample has no period.
            0.5 - 0.5 * cos(2 * Double.pi * Double($0) / max(period, 1))
        }
        let weight: (Int, Int) -> Double
        switch features.kind {
        case .mfcc: weight = mfccWeight(features)
        case .kaldi: weight = kaldiWeight(features)
        case .whisper, .nemo: weight = slaneyWeight(features)
        case .samples: weight = { _, _ in 0 }
        }
        let kaldi = features.kind == .kaldi
        spectra = Spectra(
            window: kaldi ? hann.map { pow($0, 0.85) } : hann,
            stride: features.stride, fftSize: features.fftSize,
            bands: Bands(
                bands: features.inPackage ? 0 : features.melBands, bins: bins, weight: weight
            ),
            magnitudes: features.kind == .mfcc,
            conditioning: kaldi
                ? .kaldi(scale: features.kaldiScale, preemphasis: features.preemphasis) : .none
        )
        let count = features.melBands
        let rows = features.kind == .mfcc ? features.coefficients : 0
        cosines = (0..<rows * count).map { index in
            let angle = Double.pi / Double(count) * (Double(index % count) + 0.5)
            return sqrt(2 / Double(count)) * cos(angle * Double(index / count))
        }
    }

    /// The steps of a whole recording, as the package takes them.
    public func callAsFunction(_ samples: [Int16]) -> ASRRows {
        var stream = ASRFeatureStream(self)
        var rows = stream.take(samples)
        rows.append(stream.end())
        return rows
    }

    /// Frames of a whole recording: of MFCC without the frames of context.
    public func frames(of samples: [Int16]) -> ASRRows {
        guard features.kind == .mfcc, !features.inPackage else { return self(samples) }
        let scaled = samples.map { Double(Float($0) * features.sampleScale) }
        return mfcc(scaled, frames: features.steps(samples: samples.count))
    }

    /// MFCC of frames that begin at sample 0.
    func mfcc(_ samples: [Double], frames: Int) -> ASRRows {
        let bands = features.melBands, count = features.coefficients, floor = features.logFloor
        var values = [Float](repeating: 0, count: frames * count)
        values.withUnsafeMutableBufferPointer { values in
            cosines.withUnsafeBufferPointer { cosines in
                spectra.compute(samples, frames: frames) { first, lanes, found in
                    logarithms(found, count: bands) { log(max($0, floor)) }
                    for row in 0..<count {
                        var sum = Lanes.zero
                        for band in 0..<bands { sum += cosines[row * bands + band] * found[band] }
                        for lane in 0..<lanes {
                            values[(first + lane) * count + row] = Float(sum[lane])
                        }
                    }
                }
            }
        }
        return ASRRows(width: count, values: values)
    }

    /// Logarithms of the bands of frames that begin at sample 0, (frames, melBands), before what a
    /// recipe does to a whole recording.
    func logBands(_ samples: [Double], frames: Int) -> [Double] {
        let bands = features.melBands, floor = features.logFloor
        let logarithm: (Double) -> Double
        switch features.kind {
        case .kaldi: logarithm = { log(max($0, Double(Float.ulpOfOne))) }
        case .whisper: logarithm = { log(max($0, 1e-10)) * (1 / log(10)) }
        default: logarithm = { log($0 + floor) }
        }
        var values = [Double](repeating: 0, count: frames * bands)
        values.withUnsafeMutableBufferPointer { values in
            spectra.compute(samples, frames: frames) { first, lanes, found in
                logarithms(found, count: bands, logarithm)
                for lane in 0..<lanes {
                    for band in 0..<bands { values[(first + lane) * bands + band] = found[band][lane] }
                }
            }
        }
        return values
    }
}

private func logarithms(
    _ values: UnsafeMutablePointer<Lanes>, count: Int, _ logarithm: (Double) -> Double
) {
    for index in 0..<count {
        let v = values[index]
        values[index] = Lanes(logarithm(v.x), logarithm(v.y), logarithm(v.z), logarithm(v.w))
    }
}

/// Triangles on the mel scale, of which neighbours share every bin. The range of bins is
/// TensorFlow's: the constant part is left out, and the first bin is rounded from the lower edge.
private func mfccWeight(_ features: ASRFeatures) -> (Int, Int) -> Double {
    let low = mel(features.lowerHz), high = mel(features.upperHz)
    let edges = (0..<features.melBands + 2).map {
        low + (high - low) / Double(features.melBands + 1) * Double($0)
    }
    let hertzPerBin = 0.5 * Double(features.sampleRate) / Double(max(features.fftSize / 2, 1))
    let first = Int(1.5 + features.lowerHz / hertzPerBin)
    let last = Int(features.upperHz / hertzPerBin)
    return { bin, band in
        guard bin >= first, bin <= last else { return 0 }
        let value = mel(Double(bin) * hertzPerBin)
        // edges[upper] is the centre of the band above the bin, edges[upper - 1] of the one below.
        var upper = 1
        while upper < features.melBands + 1 && edges[upper] < value { upper += 1 }
        let falling = (edges[upper] - value) / (edges[upper] - edges[upper - 1])
        return upper == band + 1 ? 1 - falling : upper == band + 2 ? falling : 0
    }
}

/// Kaldi's triangles on the mel scale; the last bin is in none.
private func kaldiWeight(_ features: ASRFeatures) -> (Int, Int) -> Double {
    let low = mel(features.lowerHz)
    let step = (mel(features.upperHz) - low) / Double(features.melBands + 1)
    return { bin, band in
        guard bin < features.fftSize / 2 else { return 0 }
        let value = mel(Double(bin) * Double(features.sampleRate) / Double(features.fftSize))
        let left = low + step * Double(band)
        return max(0, min((value - left) / step, (left + 2 * step - value) / step))
    }
}

/// Slaney's triangles: linear below 1 kHz, logarithmic above, each divided by its width.
private func slaneyWeight(_ features: ASRFeatures) -> (Int, Int) -> Double {
    let logStep = log(6.4) / 27, linearHz = 200.0 / 3, breakMel = 1000 / linearHz
    func toMel(_ hertz: Double) -> Double {
        hertz < 1000 ? hertz / linearHz : breakMel + log(hertz / 1000) / logStep
    }
    func toHertz(_ mel: Double) -> Double {
        mel < breakMel ? mel * linearHz : 1000 * exp(logStep * (mel - breakMel))
    }
    let low = toMel(features.lowerHz), high = toMel(features.upperHz)
    let edges = (0..<features.melBands + 2).map {
        toHertz(low + (high - low) / Double(features.melBands + 1) * Double($0))
    }
    let hertzPerBin = 0.5 * Double(features.sampleRate) / Double(max(features.fftSize / 2, 1))
    return { bin, band in
        let hertz = Double(bin) * hertzPerBin
        let (left, centre, right) = (edges[band], edges[band + 1], edges[band + 2])
        let rising = (hertz - left) / (centre - left), falling = (right - hertz) / (right - centre)
        return max(0, min(rising, falling)) * 2 / (right - left)
    }
}

private func mel(_ hertz: Double) -> Double { 1127 * log1p(hertz / 700) }
