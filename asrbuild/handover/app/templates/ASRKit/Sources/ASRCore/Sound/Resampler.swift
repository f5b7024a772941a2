import Foundation

/// Converts samples from one rate to another, in pieces or at once.
///
/// A windowed sinc: flat up to 0.91 of the lower of both Nyquist frequencies, and 110 dB down from
/// the lower one on, so that no tone is heard at a frequency that it does not have. The window is
/// Kaiser's; source of its formulas: Oppenheim and Schafer, "Discrete-Time Signal Processing", 7.6.
/// The output is not delayed: sample n is at the time n / rate.
public struct ASRResampler: Sendable {
    /// Samples a second of the input.
    public let inputRate: Int
    /// Samples a second of the output.
    public let outputRate: Int
    /// Output n is `n * step / parts` input samples after the start.
    private let step: Int
    private let parts: Int
    /// Input samples on each side that an output is made of.
    private let half: Int
    /// Places between two input samples that the table has coefficients for.
    private let phases: Int
    /// Coefficients, (phases + 1, 2 * half).
    private let table: [Float]
    /// Input that is still needed, of which the first sample has the number `first`.
    private var waiting: [Float]
    private var first: Int
    private var taken = 0
    private var made = 0
    private var finished = false

    private static let flat = 0.91
    private static let attenuation = 110.0
    /// With more places than these, coefficients are interpolated: 128 dB down.
    private static let mostPhases = 1024

    /// - Throws: `ASRError.unsupported` for rates outside of 1 to 768 kHz.
    public init(from inputRate: Int, to outputRate: Int) throws {
        for rate in [inputRate, outputRate] where !(1_000...768_000).contains(rate) {
            throw ASRError.unsupported("\(rate) samples a second")
        }
        self.inputRate = inputRate
        self.outputRate = outputRate
        var (divisor, rest) = (inputRate, outputRate)
        while rest > 0 { (divisor, rest) = (rest, divisor % rest) }
        step = inputRate / divisor
        parts = outputRate / divisor
        guard inputRate != outputRate else {
            (half, phases, table, waiting, first) = (0, 1, [], [], 0)
            return
        }
        let ratio = min(1, Double(outputRate) / Double(inputRate))
        let width = (1 - Self.flat) * Double.pi * ratio
        // In whole vectors.
        let lanes = SIMD8<Float>.scalarCount
        let taps = (Self.attenuation - 8) / (2.285 * width)
        half = (Int(taps / 2) / (lanes / 2) + 1) * (lanes / 2)
        phases = min(parts, Self.mostPhases)
        table = Self.coefficients(half: half, phases: phases, cutoff: (1 + Self.flat) / 2 * ratio)
        waiting = [Float](repeating: 0, count: half - 1)
        first = 1 - half
    }

    /// A whole recording at another rate.
    public static func resample(
        _ samples: [Float], from inputRate: Int, to outputRate: Int
    ) throws -> [Float] {
        var resampler = try ASRResampler(from: inputRate, to: outputRate)
        return try resampler.push(samples) + resampler.finish()
    }

    /// Takes samples; returns those at the output's rate that became complete.
    public mutating func push(_ samples: [Float]) throws -> [Float] {
        guard !finished else { throw ASRError.finished }
        taken += samples.count
        guard half > 0 else { return samples }
        waiting += samples
        return advance(to: Int.max)
    }

    /// The samples that were still waiting; zeros follow the recording.
    public mutating func finish() throws -> [Float] {
        guard !finished else { throw ASRError.finished }
        finished = true
        guard half > 0 else { return [] }
        waiting += [Float](repeating: 0, count: half + 1)
        // As many as soxr makes: the nearest number.
        return advance(to: (2 * taken * parts + step) / (2 * step))
    }

    /// Makes outputs up to the number `count`, as far as their input is there.
    private mutating func advance(to count: Int) -> [Float] {
        var made = self.made
        var found: [Float] = []
        let (taps, exact) = (2 * half, phases == parts)
        waiting.withUnsafeBytes { input in
            table.withUnsafeBytes { table in
                let available = first + input.count / 4
                while made < count {
                    let whole = made * step / parts, part = made * step % parts
                    guard whole + half < available else { break }
                    let place = Double(part) * Double(phases) / Double(parts)
                    let phase = exact ? part : Int(place)
                    let from = 4 * (whole - half + 1 - first)
                    let near = Self.sum(input, from, table, 4 * taps * phase, taps)
                    if exact {
                        found.append(near)
                    } else {
                        let next = Self.sum(input, from, table, 4 * taps * (phase + 1), taps)
                        found.append(near + Float(place - Double(phase)) * (next - near))
                    }
                    made += 1
                }
            }
        }
        self.made = made
        let gone = min(max(made * step / parts - half + 1 - first, 0), waiting.count)
        waiting.removeFirst(gone)
        first += gone
        return found
    }

    /// The sum of products of `count` values, from byte offsets on.
    private static func sum(
        _ one: UnsafeRawBufferPointer, _ from: Int, _ other: UnsafeRawBufferPointer, _ at: Int,
        _ count: Int
    ) -> Float {
        var sums = SIMD8<Float>.zero
        let a = one.baseAddress! + from
        let b = other.baseAddress! + at
        for offset in Swift.stride(from: 0, to: 4 * count, by: 32) {
            let left = a.loadUnaligned(fromByteOffset: offset, as: SIMD8<Float>.self)
            let right = b.loadUnaligned(fromByteOffset: offset, as: SIMD8<Float>.self)
            sums += left * right
        }
        return sums.sum()
    }

    /// - Parameter cutoff: a share of the input's Nyquist frequency.
    private static func coefficients(half: Int, phases: Int, cutoff: Double) -> [Float] {
        let beta = 0.1102 * (attenuation - 8.7)
        let whole = bessel(beta)
        var table: [Float] = []
        table.reserveCapacity((phases + 1) * 2 * half)
        for phase in 0...phases {
            let values = (0..<2 * half).map { index -> Double in
                let distance = Double(phase) / Double(phases) + Double(half - 1 - index)
                let place = distance / Double(half)
                guard abs(place) < 1 else { return 0 }
                let angle = Double.pi * cutoff * distance
                let sinc = angle == 0 ? 1 : sin(angle) / angle
                return sinc * bessel(beta * (1 - place * place).squareRoot()) / whole
            }
            // A constant stays what it is.
            let sum = values.reduce(0, +)
            table += values.map { Float($0 / sum) }
        }
        return table
    }

    /// The modified Bessel function of order zero, by its series.
    private static func bessel(_ x: Double) -> Double {
        var (sum, term, number) = (1.0, 1.0, 1.0)
        while term > 1e-17 * sum {
            term *= (x / (2 * number)) * (x / (2 * number))
            sum += term
            number += 1
        }
        return sum
    }
}
