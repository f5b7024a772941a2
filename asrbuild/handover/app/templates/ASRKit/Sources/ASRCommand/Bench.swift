import ASRKit
import Foundation

extension Command {
    /// Times of the features and, with an artifact and a recording, of its package.
    static func bench(_ options: Options) async throws {
        let seconds = try options.seconds()
        let recipes = options.hasArtifact
            ? [try ASRFeatures(options.artifact().manifest)]
            : [.mfcc, .whisper, .nemo, .kaldi].map { ASRFeatures($0) }
        for features in recipes where !features.inPackage {
            let frontEnd = ASRFrontEnd(features)
            let samples = noise(seconds * features.sampleRate)
            let best = (0..<5).map { _ in
                let start = ProcessInfo.processInfo.systemUptime
                let steps = frontEnd(samples).count
                precondition(steps == features.steps(samples: samples.count))
                return ProcessInfo.processInfo.systemUptime - start
            }.min() ?? 0
            print("features   \(features.kind.rawValue): \(milliseconds(best)) for \(seconds) s of sound")
        }
        guard options.hasArtifact, let file = options.files.first else { return }
        let artifact = try options.artifact()
        let begun = ProcessInfo.processInfo.systemUptime
        let model = try await options.model(artifact)
        print("load       \(milliseconds(ProcessInfo.processInfo.systemUptime - begun))")
        let transcriber = try options.transcriber(artifact, model)
        let wave = try ASRWaveFile(contentsOf: URL(fileURLWithPath: file))
        let start = ProcessInfo.processInfo.systemUptime
        let utterance = try transcriber.utterance()
        for try await piece in wave.pieces(at: transcriber.settings.sampleRate) {
            _ = try await utterance.push(piece)
        }
        let text = try await utterance.finish().text
        let elapsed = ProcessInfo.processInfo.systemUptime - start
        let timings = model.timings
        let length = Double(wave.count) / Double(wave.sampleRate)
        print("package    \(timings.calls) calls, \(milliseconds(timings.seconds))")
        print("           the longest \(milliseconds(timings.longest))")
        let decoding = await utterance.decoding
        print("decoder    \(decoding.calls) calls, \(milliseconds(decoding.seconds))")
        print("           the longest \(milliseconds(decoding.longest))")
        print("whole      \(milliseconds(elapsed)) for \(hundredths(length)) s of sound")
        print("           \(hundredths(elapsed / length)) of real time: \(text)")
    }

    /// Noise of the loudness of speech, the same each time.
    private static func noise(_ count: Int) -> [Int16] {
        var state: UInt32 = 1
        return (0..<count).map { _ in
            state = state &* 1_664_525 &+ 1_013_904_223
            return Int16(truncatingIfNeeded: Int32(bitPattern: state) >> 19)
        }
    }

    private static func milliseconds(_ seconds: Double) -> String { "\(hundredths(1000 * seconds)) ms" }

    private static func hundredths(_ number: Double) -> String { "\((100 * number).rounded() / 100)" }
}
