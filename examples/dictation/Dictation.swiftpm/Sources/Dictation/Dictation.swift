import ASRDelivery
import ASRKit
import Combine
import CoreML
import Foundation

/// Listens, and keeps the text of the utterances. An utterance ends after a silence.
@MainActor
final class Dictation: ObservableObject {
    /// Finished utterances, in order.
    @Published private(set) var utterances: [String] = []
    /// The words so far of the current utterance.
    @Published private(set) var partial = ""
    /// The reason why there are no words, or no newer model.
    @Published private(set) var problem: String?
    /// Name and version of the model that listens; nil until one is loaded.
    @Published private(set) var version: String?
    /// The share of a newer model that is fetched, from 0 to 1; nil when nothing is fetched.
    @Published private(set) var fetched: Double?
    /// Whether the microphone is on.
    @Published private(set) var listening = false

    private var work: Task<Void, Never>?
    /// The publisher's channel and the app's own model; nil: the settings cannot be read.
    private let source: SpeechModel?
    /// The recognizer of the newest model that is here. An utterance keeps the one that it began with.
    private var recognizer: ASRRecognizer?

    init() {
        let resources = (Bundle.module.resourceURL ?? Bundle.module.bundleURL)
            .appendingPathComponent("Resources")
        do { source = try SpeechModel(resources: resources) } catch {
            source = nil
            problem = error.localizedDescription
        }
    }

    /// Loads the model that is here, then looks for a newer one.
    func prepare() async {
        do {
            if let artifact = try await source?.local() { try await use(artifact) }
        } catch {
            problem = error.localizedDescription
        }
        await update()
    }

    /// Fetches the model that the publisher's channel names; the next utterance uses it.
    func update() async {
        guard let source = source, fetched == nil else { return }
        fetched = 0
        defer { fetched = nil }
        do {
            let newest = try await source.newest { [weak self] share in
                Task { @MainActor in self?.show(share) }
            }
            if let newest = newest, Self.name(newest) != version { try await use(newest) }
            try await source.cleanUp()
            problem = version == nil ? "There is no model yet." : nil
        } catch ASRDeliveryError.server where version != nil {
            // Without a network the app goes on with the model that it has.
        } catch {
            problem = error.localizedDescription
        }
    }

    /// Starts listening, or stops.
    func toggle() {
        guard !listening else {
            work?.cancel()
            return
        }
        problem = nil
        listening = true
        work = Task {
            do { try await listen() } catch is CancellationError {} catch {
                problem = error.localizedDescription
            }
            if !partial.isEmpty { utterances.append(partial) }
            partial = ""
            listening = false
        }
    }

    private func show(_ share: Double) {
        // A block may arrive after the end of the download.
        if fetched != nil { fetched = share }
    }

    private static func name(_ artifact: ASRArtifact) -> String {
        "\(artifact.manifest.name) \(artifact.manifest.version)"
    }

    /// iOS does not permit use of the GPU in the background.
    nonisolated private static var units: MLComputeUnits {
        if #available(iOS 16, macOS 13, *) { return .cpuAndNeuralEngine }
        return .cpuOnly
    }

    /// Loads a model, off the main thread, and listens with it from the next utterance on.
    private func use(_ artifact: ASRArtifact) async throws {
        let next = ASRRecognizer {
            let model = try await ASRCoreMLModel(artifact, computeUnits: Self.units)
            return try ASRTranscriber(artifact, model: model)
        }
        try await next.prepare()
        recognizer = next
        version = Self.name(artifact)
    }

    /// One utterance after the other, until the task is cancelled.
    private func listen() async throws {
        while !Task.isCancelled, let recognizer = recognizer {
            let rate = try await recognizer.prepare().settings.sampleRate
            let detector = try ASRSpeechDetector(sampleRate: rate)
            let sound = ASRMicrophone().pieces(at: rate).firstUtterance(detector)
            for try await event in recognizer.events(of: sound) {
                switch event {
                case .partial(let text): partial = text
                case .final(let transcript):
                    partial = ""
                    if !transcript.text.isEmpty { utterances.append(transcript.text) }
                }
            }
        }
    }
}
