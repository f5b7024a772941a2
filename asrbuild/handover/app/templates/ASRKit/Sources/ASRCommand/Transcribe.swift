import ASRKit
import Foundation

/// A recording and its words, as `--format json` prints them.
private struct Transcribed: Encodable {
    let file: String
    let text: String
    let words: [ASRWord]
    let audio_s: Double
    let elapsed_s: Double
    let real_time_factor: Double
    let calls: ASRTimings
}

/// The output of `--format json`.
private struct Printed: Encodable {
    let artifact: String
    let recordings: [Transcribed]
}

extension Command {
    /// Recordings to words.
    static func transcribe(_ options: Options) async throws {
        guard !options.files.isEmpty else { throw Usage("transcribe has no recording") }
        let format = try options.format()
        let artifact = try options.artifact()
        let model = try await options.model(artifact)
        let transcriber = try options.transcriber(artifact, model)
        let recognizer = ASRRecognizer { transcriber }
        var all: [Transcribed] = []
        for file in options.files {
            let found = try await words(file, recognizer, transcriber, model, options.partial)
            switch format {
            case "json": all.append(found)
            case "srt": print(ASRCaptions(found.words).srt, terminator: "")
            case "vtt": print(ASRCaptions(found.words).vtt, terminator: "")
            default: print(options.files.count > 1 ? "\(file): \(found.text)" : found.text)
            }
        }
        guard format == "json" else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let printed = Printed(artifact: artifact.manifest.artifactId, recordings: all)
        print(String(decoding: try encoder.encode(printed), as: UTF8.self))
    }

    private static func words(
        _ file: String, _ recognizer: ASRRecognizer, _ transcriber: ASRTranscriber,
        _ model: ASRTimedModel, _ partial: Bool
    ) async throws -> Transcribed {
        model.reset()
        let start = ProcessInfo.processInfo.systemUptime
        let counted = Counted(base: try sound(file, at: transcriber.settings.sampleRate))
        var found = ASRTranscription(text: "", words: [])
        for try await event in recognizer.events(of: counted) {
            switch event {
            case .partial(let text):
                if partial { FileHandle.standardError.write(Data("\(text)\n".utf8)) }
            case .final(let transcription): found = transcription
            }
        }
        let elapsed = ProcessInfo.processInfo.systemUptime - start
        let length = Double(counted.count.value) / Double(transcriber.settings.sampleRate)
        return Transcribed(
            file: file, text: found.text, words: found.words, audio_s: length, elapsed_s: elapsed,
            real_time_factor: elapsed / max(length, 1e-9), calls: model.timings
        )
    }

    /// A recording in pieces at a rate.
    static func sound(_ file: String, at rate: Int) throws -> ASRPieces {
        let url = URL(fileURLWithPath: file)
        guard FileManager.default.fileExists(atPath: url.path) else {
            throw ASRError.unreadable("there is no \(file)")
        }
        #if canImport(AVFoundation)
        if url.pathExtension.lowercased() != "wav" { return ASRAudioFile(contentsOf: url).pieces(at: rate) }
        #endif
        return try ASRWaveFile(contentsOf: url).pieces(at: rate)
    }
}

/// Pieces, and how many samples they had.
private struct Counted: AsyncSequence, Sendable {
    typealias Element = [Float]

    /// Unchecked: one loop counts, and the number is read after it.
    final class Count: @unchecked Sendable { var value = 0 }

    let base: ASRPieces
    let count = Count()

    func makeAsyncIterator() -> Iterator { Iterator(base: base.makeAsyncIterator(), count: count) }

    struct Iterator: AsyncIteratorProtocol {
        var base: ASRPieces.Iterator
        let count: Count

        mutating func next() async throws -> [Float]? {
            let piece = try await base.next()
            count.value += piece?.count ?? 0
            return piece
        }
    }
}
