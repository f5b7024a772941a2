import Foundation

/// Values of the same place in several frames, which are computed side by side.
typealias Lanes = SIMD4<Double>

/// Bands of a spectrum: each is a weighted sum of neighbouring bins of a Fourier transform.
struct Bands: Sendable {
    private(set) var count = 0
    private var firsts: [Int] = []
    /// The offset of each band's weights, and after the last band, of their end.
    private var offsets = [0]
    private var weights: [Double] = []

    /// - Parameter weight: of a bin in a band; bins without weight around a band are left out.
    init(bands: Int, bins: Int, weight: (_ bin: Int, _ band: Int) -> Double) {
        for band in 0..<bands {
            let all = (0..<bins).map { weight($0, band) }
            let first = all.firstIndex { $0 != 0 } ?? 0
            let last = all.lastIndex { $0 != 0 } ?? first - 1
            firsts.append(first)
            weights += all[first..<max(first, last + 1)]
            offsets.append(weights.count)
        }
        count = bands
    }

    /// The bands of some frames, of the bins of each.
    func apply(_ bins: UnsafePointer<Lanes>, _ result: UnsafeMutablePointer<Lanes>) {
        weights.withUnsafeBufferPointer { weights in
            for band in 0..<count {
                var sum = Lanes.zero
                var bin = firsts[band]
                for index in offsets[band]..<offsets[band + 1] {
                    sum += weights[index] * bins[bin]
                    bin &+= 1
                }
                result[band] = sum
            }
        }
    }
}

/// Frames of samples to bands of their spectra: a window, a Fourier transform, sums.
struct Spectra: Sendable {
    /// The processing of a frame's samples before its window.
    enum Conditioning: Equatable, Sendable {
        case none
        /// As Kaldi's `ProcessWindow`: scaled, freed of their mean, and pre-emphasised.
        case kaldi(scale: Double, preemphasis: Double)
    }

    let window: [Double]
    let stride: Int
    let bands: Bands
    let conditioning: Conditioning
    /// Whether bands are sums of magnitudes; else of their squares, which are powers.
    let magnitudes: Bool
    private let transform: RealTransform

    init(
        window: [Double], stride: Int, fftSize: Int, bands: Bands, magnitudes: Bool = false,
        conditioning: Conditioning = .none
    ) {
        self.window = window
        self.stride = stride
        self.bands = bands
        self.magnitudes = magnitudes
        self.conditioning = conditioning
        transform = RealTransform(size: fftSize)
    }

    /// Computes frames `stride` apart, the first at sample 0.
    ///
    /// - Parameter body: is given the first frame, how many there are, and their bands, for a few
    ///   frames at a time.
    func compute(
        _ samples: [Double], frames: Int,
        _ body: (_ first: Int, _ count: Int, _ bands: UnsafeMutablePointer<Lanes>) -> Void
    ) {
        guard frames > 0 else { return }
        let size = transform.scratch + transform.bins + bands.count
        withUnsafeTemporaryAllocation(of: Lanes.self, capacity: size) { scratch in
            samples.withUnsafeBufferPointer { samples in
                let work = scratch.baseAddress!
                let spectrum = work + transform.scratch, result = spectrum + transform.bins
                for first in Swift.stride(from: 0, to: frames, by: Lanes.scalarCount) {
                    let count = min(Lanes.scalarCount, frames - first)
                    load(samples.baseAddress!, first, count, work)
                    transform.power(work, spectrum)
                    if magnitudes {
                        for bin in 0..<transform.bins { spectrum[bin] = spectrum[bin].squareRoot() }
                    }
                    bands.apply(spectrum, result)
                    body(first, count, result)
                }
            }
        }
    }

    /// Lays windowed frames side by side; where fewer are left than lanes, the last one repeats.
    private func load(
        _ samples: UnsafePointer<Double>, _ first: Int, _ count: Int,
        _ work: UnsafeMutablePointer<Lanes>
    ) {
        let (size, last) = (window.count, first + count - 1)
        let a = samples + first * stride, b = samples + min(first + 1, last) * stride
        let c = samples + min(first + 2, last) * stride, d = samples + last * stride
        window.withUnsafeBufferPointer { window in
            switch conditioning {
            case .none:
                for index in 0..<size {
                    work[index] = Lanes(a[index], b[index], c[index], d[index]) * window[index]
                }
            case .kaldi(let scale, let preemphasis):
                var mean = Lanes.zero
                for index in 0..<size {
                    work[index] = Lanes(a[index], b[index], c[index], d[index])
                    mean += work[index]
                }
                mean /= Double(size)
                var before = work[0] - mean
                for index in 0..<size {
                    let value = work[index] - mean
                    work[index] = (value - preemphasis * before) * (scale * window[index])
                    before = value
                }
            }
        }
        for index in size..<transform.size { work[index] = .zero }
    }
}

/// The Fourier transform of real signals, of several at a time, in double precision.
///
/// A signal of even size is transformed as a complex one of half the size. Stockham's algorithm
/// with steps of 4, 2, 5 and any odd number: sizes of small factors are fast, and every size is right.
struct RealTransform: Sendable {
    private struct Step {
        let radix: Int
        /// Transforms of this step: `groups` with factors of their own, each `width` times.
        let groups: Int
        let width: Int
        /// Cosines and sines for the results 1 to radix - 1 of every group.
        let turns: [SIMD2<Double>]
        /// Of an odd radix: cosines and sines of the multiples of its angle.
        let roots: [SIMD2<Double>]
    }

    /// Values of a signal.
    let size: Int
    private let complexSize: Int
    private let steps: [Step]
    /// Cosine and sine for each bin of the whole transform, where the size is even.
    private let turns: [SIMD2<Double>]

    /// Bins of the spectrum.
    var bins: Int { size / 2 + 1 }
    /// Values of working memory, of which the first `size` are the signal.
    var scratch: Int { size + 4 * complexSize }

    init(size: Int) {
        precondition(size > 0, "the size must be positive")
        self.size = size
        complexSize = size % 2 == 0 ? size / 2 : size
        turns = (0...size / 2).map { Self.turn($0, of: size) }
        var made: [Step] = []
        var rest = complexSize, width = 1
        while rest > 1 {
            let radix = rest % 4 == 0 ? 4 : (2...rest).first { rest % $0 == 0 } ?? rest
            let groups = rest / radix
            made.append(
                Step(
                    radix: radix, groups: groups, width: width,
                    turns: (0..<groups).flatMap { group in
                        (1..<radix).map { Self.turn(group * $0, of: rest) }
                    },
                    roots: radix % 2 == 0 ? [] : (0..<radix).map { Self.turn($0, of: radix) }
                )
            )
            rest = groups
            width *= radix
        }
        steps = made
    }

    /// Cosine and sine of minus `part` parts of a circle of `whole`.
    private static func turn(_ part: Int, of whole: Int) -> SIMD2<Double> {
        let angle = -2 * Double.pi * Double(part % whole) / Double(whole)
        return SIMD2(cos(angle), sin(angle))
    }

    /// The squares of the magnitudes of bins 0 to size / 2; `work` has the signal and is used up.
    func power(_ work: UnsafeMutablePointer<Lanes>, _ result: UnsafeMutablePointer<Lanes>) {
        let half = complexSize
        var (real, imaginary) = (work + size, work + size + half)
        var (nextReal, nextImaginary) = (imaginary + half, imaginary + 2 * half)
        let even = size % 2 == 0
        for index in 0..<half {
            real[index] = even ? work[2 * index] : work[index]
            imaginary[index] = even ? work[2 * index + 1] : .zero
        }
        for step in steps {
            switch step.radix {
            case 4: Self.four(step, real, imaginary, nextReal, nextImaginary)
            case 2: Self.two(step, real, imaginary, nextReal, nextImaginary)
            case 5: Self.five(step, real, imaginary, nextReal, nextImaginary)
            default: Self.odd(step, real, imaginary, nextReal, nextImaginary)
            }
            swap(&real, &nextReal)
            swap(&imaginary, &nextImaginary)
        }
        guard even else {
            for bin in 0..<bins {
                result[bin] = real[bin] * real[bin] + imaginary[bin] * imaginary[bin]
            }
            return
        }
        turns.withUnsafeBufferPointer { turns in
            for bin in 0...half / 2 {
                let one = bin, other = bin == 0 ? 0 : half - bin
                let sumReal = 0.5 * (real[one] + real[other])
                let sumImaginary = 0.5 * (imaginary[one] - imaginary[other])
                let oddReal = 0.5 * (imaginary[one] + imaginary[other])
                let oddImaginary = 0.5 * (real[other] - real[one])
                let turn = turns[bin]
                let turnedReal = turn.x * oddReal - turn.y * oddImaginary
                let turnedImaginary = turn.x * oddImaginary + turn.y * oddReal
                let (r, i) = (sumReal + turnedReal, sumImaginary + turnedImaginary)
                let (s, j) = (sumReal - turnedReal, turnedImaginary - sumImaginary)
                result[bin] = r * r + i * i
                result[half - bin] = s * s + j * j
            }
        }
    }

    private static func four(
        _ step: Step, _ real: UnsafeMutablePointer<Lanes>, _ imaginary: UnsafeMutablePointer<Lanes>,
        _ nextReal: UnsafeMutablePointer<Lanes>, _ nextImaginary: UnsafeMutablePointer<Lanes>
    ) {
        let (width, groups) = (step.width, step.groups)
        let apart = width &* groups
        step.turns.withUnsafeBufferPointer { turns in
            for group in 0..<groups {
                let (t1, t2, t3) = (turns[3 * group], turns[3 * group + 1], turns[3 * group + 2])
                var from = width &* group, to = 4 &* width &* group
                for _ in 0..<width {
                    let (r0, i0) = (real[from], imaginary[from])
                    let (r1, i1) = (real[from &+ apart], imaginary[from &+ apart])
                    let (r2, i2) = (real[from &+ 2 &* apart], imaginary[from &+ 2 &* apart])
                    let (r3, i3) = (real[from &+ 3 &* apart], imaginary[from &+ 3 &* apart])
                    let (sr, si, dr, di) = (r0 + r2, i0 + i2, r0 - r2, i0 - i2)
                    let (ur, ui, vr, vi) = (r1 + r3, i1 + i3, i1 - i3, r3 - r1)
                    nextReal[to] = sr + ur
                    nextImaginary[to] = si + ui
                    let (ar, ai, br, bi) = (dr + vr, di + vi, sr - ur, si - ui)
                    let (cr, ci) = (dr - vr, di - vi)
                    nextReal[to &+ width] = t1.x * ar - t1.y * ai
                    nextImaginary[to &+ width] = t1.x * ai + t1.y * ar
                    nextReal[to &+ 2 &* width] = t2.x * br - t2.y * bi
                    nextImaginary[to &+ 2 &* width] = t2.x * bi + t2.y * br
                    nextReal[to &+ 3 &* width] = t3.x * cr - t3.y * ci
                    nextImaginary[to &+ 3 &* width] = t3.x * ci + t3.y * cr
                    from &+= 1
                    to &+= 1
                }
            }
        }
    }

    private static func two(
        _ step: Step, _ real: UnsafeMutablePointer<Lanes>, _ imaginary: UnsafeMutablePointer<Lanes>,
        _ nextReal: UnsafeMutablePointer<Lanes>, _ nextImaginary: UnsafeMutablePointer<Lanes>
    ) {
        let (width, groups) = (step.width, step.groups)
        let apart = width &* groups
        for group in 0..<groups {
            let turn = step.turns[group]
            var from = width &* group, to = 2 &* width &* group
            for _ in 0..<width {
                let (r0, i0) = (real[from], imaginary[from])
                let (r1, i1) = (real[from &+ apart], imaginary[from &+ apart])
                let (dr, di) = (r0 - r1, i0 - i1)
                nextReal[to] = r0 + r1
                nextImaginary[to] = i0 + i1
                nextReal[to &+ width] = turn.x * dr - turn.y * di
                nextImaginary[to &+ width] = turn.x * di + turn.y * dr
                from &+= 1
                to &+= 1
            }
        }
    }

    private static func five(
        _ step: Step, _ real: UnsafeMutablePointer<Lanes>, _ imaginary: UnsafeMutablePointer<Lanes>,
        _ nextReal: UnsafeMutablePointer<Lanes>, _ nextImaginary: UnsafeMutablePointer<Lanes>
    ) {
        let (width, groups) = (step.width, step.groups)
        let apart = width &* groups
        let (c1, c2) = (step.roots[1].x, step.roots[2].x)
        let (s1, s2) = (-step.roots[1].y, -step.roots[2].y)
        step.turns.withUnsafeBufferPointer { turns in
            for group in 0..<groups {
                let (t1, t2) = (turns[4 * group], turns[4 * group + 1])
                let (t3, t4) = (turns[4 * group + 2], turns[4 * group + 3])
                var from = width &* group
                var to = 5 &* width &* group
                for _ in 0..<width {
                    let (r0, i0) = (real[from], imaginary[from])
                    let (r1, i1) = (real[from &+ apart], imaginary[from &+ apart])
                    let (r2, i2) = (real[from &+ 2 &* apart], imaginary[from &+ 2 &* apart])
                    let (r3, i3) = (real[from &+ 3 &* apart], imaginary[from &+ 3 &* apart])
                    let (r4, i4) = (real[from &+ 4 &* apart], imaginary[from &+ 4 &* apart])
                    let (ar, ai, br, bi) = (r1 + r4, i1 + i4, r2 + r3, i2 + i3)
                    let (dr, di, er, ei) = (r1 - r4, i1 - i4, r2 - r3, i2 - i3)
                    nextReal[to] = r0 + ar + br
                    nextImaginary[to] = i0 + ai + bi
                    let (pr, pi) = (r0 + c1 * ar + c2 * br, i0 + c1 * ai + c2 * bi)
                    let (qr, qi) = (r0 + c2 * ar + c1 * br, i0 + c2 * ai + c1 * bi)
                    let (ur, ui) = (s1 * di + s2 * ei, s1 * dr + s2 * er)
                    let (vr, vi) = (s2 * di - s1 * ei, s2 * dr - s1 * er)
                    let (x1, y1, x4, y4) = (pr + ur, pi - ui, pr - ur, pi + ui)
                    let (x2, y2, x3, y3) = (qr + vr, qi - vi, qr - vr, qi + vi)
                    nextReal[to &+ width] = t1.x * x1 - t1.y * y1
                    nextImaginary[to &+ width] = t1.x * y1 + t1.y * x1
                    nextReal[to &+ 2 &* width] = t2.x * x2 - t2.y * y2
                    nextImaginary[to &+ 2 &* width] = t2.x * y2 + t2.y * x2
                    nextReal[to &+ 3 &* width] = t3.x * x3 - t3.y * y3
                    nextImaginary[to &+ 3 &* width] = t3.x * y3 + t3.y * x3
                    nextReal[to &+ 4 &* width] = t4.x * x4 - t4.y * y4
                    nextImaginary[to &+ 4 &* width] = t4.x * y4 + t4.y * x4
                    from &+= 1
                    to &+= 1
                }
            }
        }
    }

    /// Any odd radix: the values that lie opposite each other share their cosines and sines.
    private static func odd(
        _ step: Step, _ real: UnsafeMutablePointer<Lanes>, _ imaginary: UnsafeMutablePointer<Lanes>,
        _ nextReal: UnsafeMutablePointer<Lanes>, _ nextImaginary: UnsafeMutablePointer<Lanes>
    ) {
        let (width, groups, radix) = (step.width, step.groups, step.radix)
        let apart = width * groups, pairs = radix / 2
        withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 4 * pairs) { opposite in
            step.roots.withUnsafeBufferPointer { roots in
                step.turns.withUnsafeBufferPointer { turns in
                    for group in 0..<groups {
                        for index in 0..<width {
                            let from = width * group + index, to = radix * width * group + index
                            let (r0, i0) = (real[from], imaginary[from])
                            var (allReal, allImaginary) = (r0, i0)
                            for pair in 0..<pairs {
                                let one = from + (pair + 1) * apart
                                let other = from + (radix - 1 - pair) * apart
                                opposite[4 * pair] = real[one] + real[other]
                                opposite[4 * pair + 1] = imaginary[one] + imaginary[other]
                                opposite[4 * pair + 2] = imaginary[one] - imaginary[other]
                                opposite[4 * pair + 3] = real[other] - real[one]
                                allReal += opposite[4 * pair]
                                allImaginary += opposite[4 * pair + 1]
                            }
                            nextReal[to] = allReal
                            nextImaginary[to] = allImaginary
                            for result in 1...pairs {
                                var (sumReal, sumImaginary) = (r0, i0)
                                var (crossReal, crossImaginary) = (Lanes.zero, Lanes.zero)
                                var at = 0
                                for pair in 0..<pairs {
                                    at &+= result
                                    if at >= radix { at &-= radix }
                                    let root = roots[at]
                                    sumReal += root.x * opposite[4 * pair]
                                    sumImaginary += root.x * opposite[4 * pair + 1]
                                    crossReal -= root.y * opposite[4 * pair + 2]
                                    crossImaginary -= root.y * opposite[4 * pair + 3]
                                }
                                func store(_ number: Int, _ r: Lanes, _ i: Lanes) {
                                    let turn = turns[group * (radix - 1) + number - 1]
                                    nextReal[to + number * width] = turn.x * r - turn.y * i
                                    nextImaginary[to + number * width] = turn.x * i + turn.y * r
                                }
                                store(result, sumReal + crossReal, sumImaginary + crossImaginary)
                                store(
                                    radix - result, sumReal - crossReal,
                                    sumImaginary - crossImaginary
                                )
                            }
                        }
                    }
                }
            }
        }
    }
}
