import ASRConformance
import ASRKit
import Foundation

/// `asrkit`: an artifact on the command line.
@main
struct Command {
    static let help = """
        asrkit \(ASRKitVersion.current): recordings to words with an artifact of asrbuild.

        asrkit transcribe WAV ... [--artifact FOLDER] [--format text|json|srt|vtt] [--partial] [--greedy]
        asrkit bench [WAV] [--artifact FOLDER] [--seconds 60] [--replay NAME]
        asrkit info [--artifact FOLDER]
        asrkit pull NAME[@CHANNEL|@VERSION] --remote URL --key FILE.pub --to FOLDER [--os iOS17] [--fresh]
        asrkit pull FILE.asrb --key FILE.pub --to FOLDER [--os iOS17]

        --artifact FOLDER  the folder with manifest.json; default: the present one
        --greedy           the likeliest label of each step; else the decoder is the manifest's
        --beam N           prefixes that a beam search keeps
        --hot-word W=B     what is added to the logarithm of a word's probability; again for each word
        --format           text, JSON with words and times, or captions; of captions one recording
        --partial          also what is known of the words so far, on the standard error output
        --seconds N        bench: how much sound the features are computed of
        --replay NAME      answers for the package with a recording of its conformance vectors, where
                           there is no Core ML

        --remote URL       pull: what asrbuild ship wrote, behind a web server
        --key FILE.pub     pull: a publisher's public key to trust; again for each key
        --to FOLDER        pull: the store; the artifact's folder in it is printed
        --os SYSTEM        pull: that it must run on; a set's first variant that does is taken
        --fresh            pull: requires an expiry of the channel that is not over

        Recordings of other formats than WAV are read where there is AVFoundation.
        """

    static func main() async {
        do {
            var arguments = Array(CommandLine.arguments.dropFirst())
            let name = arguments.isEmpty ? "--help" : arguments.removeFirst()
            switch name {
            case "transcribe": try await transcribe(Options(arguments))
            case "bench": try await bench(Options(arguments))
            case "info": try info(Options(arguments))
            case "pull": try await pull(Options(arguments))
            case "--version": print(ASRKitVersion.current)
            case "--help", "-h", "help": print(help)
            default: throw Usage("there is no command \(name)")
            }
        } catch {
            let text = (error as? any LocalizedError)?.errorDescription ?? "\(error)"
            FileHandle.standardError.write(Data("asrkit: \(text)\n".utf8))
            exit(error is Usage ? 2 : 1)
        }
    }

    /// The values of the manifest.
    static func info(_ options: Options) throws {
        let artifact = try options.artifact()
        let manifest = artifact.manifest
        let features = try ASRFeatures(manifest)
        let labels = manifest.decoder.alphabet.count
        let steps = manifest.streaming.stepsPerChunk.map { "\($0) steps a call" } ?? "any steps a call"
        print(
            """
            artifact   \(manifest.artifactId)
            licence    \(manifest.license)
            package    \(manifest.model.package), \(manifest.model.format.rawValue)
            takes      \(features.sampleRate) Hz, \(features.kind.rawValue)\
            \(features.inPackage ? " in the package" : ""), a step every \(features.stepSeconds) s, \(steps)
            decoder    \(manifest.decoder.type.rawValue), \(labels) labels
            """
        )
    }
}

/// A command that cannot be understood.
struct Usage: LocalizedError {
    let errorDescription: String?

    init(_ text: String) { errorDescription = "\(text); see asrkit --help" }
}

/// The words after a command.
struct Options {
    private(set) var files: [String] = []
    private var values: [String: String] = [:]
    private var hotWords: [String: Double] = [:]
    private var flags: Set<String> = []
    private(set) var keys: [String] = []

    var partial: Bool { flags.contains("--partial") }
    var fresh: Bool { flags.contains("--fresh") }

    init(_ arguments: [String]) throws {
        let known = [
            "--artifact", "--format", "--seconds", "--replay", "--beam", "--hot-word", "--remote", "--key", "--to", "--os",
        ]
        var rest = arguments[...]
        while let word = rest.popFirst() {
            if ["--partial", "--greedy", "--fresh"].contains(word) {
                flags.insert(word)
            } else if known.contains(word) {
                guard let value = rest.popFirst() else { throw Usage("\(word) has no value") }
                values[word] = value
                if word == "--hot-word" { try addHotWord(value) }
                if word == "--key" { keys.append(value) }
            } else if word.hasPrefix("--") {
                throw Usage("there is no option \(word)")
            } else {
                files.append(word)
            }
        }
    }

    private mutating func addHotWord(_ text: String) throws {
        let parts = text.split(separator: "=")
        guard parts.count == 2, let boost = Double(parts[1]) else {
            throw Usage("--hot-word is a word, = and a number, not \(text)")
        }
        hotWords[String(parts[0])] = boost
    }

    /// The decoder that the options name; else the manifest's.
    private func decoder() throws -> ASRDecoderChoice {
        if flags.contains("--greedy") { return .greedy }
        let width = values["--beam"].flatMap { Int($0) }
        guard values["--beam"] == nil || (width ?? 0) > 0 else {
            throw Usage("--beam is a number from 1 on")
        }
        guard width != nil || !hotWords.isEmpty else { return .manifest }
        return .beam(width: width, hotWords: hotWords.isEmpty ? nil : hotWords)
    }

    /// The transcriber of an artifact, with its scorer where one is used.
    func transcriber(_ artifact: ASRArtifact, _ model: any ASRAcousticModel) throws -> ASRTranscriber {
        try ASRTranscriber(artifact, model: model, decoder: decoder())
    }

    /// The value of an option that must be there.
    func value(_ option: String) throws -> String {
        guard let value = values[option] else { throw Usage("\(option) is missing") }
        return value
    }

    var hasArtifact: Bool { values["--artifact"] != nil }

    func artifact() throws -> ASRArtifact {
        let folder = URL(fileURLWithPath: values["--artifact"] ?? ".")
        let manifest = folder.appendingPathComponent("manifest.json").path
        guard FileManager.default.fileExists(atPath: manifest) else {
            throw Usage("there is no \(manifest)")
        }
        return try ASRArtifact(folder: folder)
    }

    func format() throws -> String {
        let format = values["--format"] ?? "text"
        guard ["text", "json", "srt", "vtt"].contains(format) else {
            throw Usage("there is no format \(format)")
        }
        guard files.count == 1 || !["srt", "vtt"].contains(format) else {
            throw Usage("captions are of one recording")
        }
        return format
    }

    func seconds() throws -> Int {
        guard let seconds = Int(values["--seconds"] ?? "60"), (1...3_600).contains(seconds) else {
            throw Usage("--seconds is a number from 1 to 3600")
        }
        return seconds
    }

    /// The package of an artifact, or what stands in for it.
    func model(_ artifact: ASRArtifact) async throws -> ASRTimedModel {
        if let name = values["--replay"] {
            let vectors = try ASRVectors(contentsOf: artifact.conformance)
            guard let recording = vectors.recordings.first(where: { $0.name == name }) else {
                let names = vectors.recordings.map(\.name).joined(separator: ", ")
                throw Usage("the vectors have no recording \(name); they have \(names)")
            }
            return ASRTimedModel(ASRReplayModel(artifact.manifest, vectors, recording))
        }
        #if canImport(CoreML)
        return ASRTimedModel(try await ASRModelFile(artifact).open())
        #else
        throw Usage("there is no Core ML on this system: --replay NAME answers with recorded outputs")
        #endif
    }
}
