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
    /// The reason why there are no words.
    @Published private(set) var problem: String?
    /// Whether the model is loaded.
    @Published private(set) var ready = false
    /// Whether the microphone is on.
    @Published private(set) var listening = false

    private var work: Task<Void, Never>?

    /// One for the app: it loads the model once, off the main thread.
    private let recognizer = ASRRecognizer {
        let resources = (Bundle.module.resourceURL ?? Bundle.module.bundleURL)
            .appendingPathComponent("Resources")
        let artifact = try ASRArtifact(named: "speech", in: resources)
        // iOS does not permit use of the GPU in the background.
        let model = try await ASRCoreMLModel(
            contentsOf: try artifact.model(), manifest: artifact.manifest,
            computeUnits: .cpuAndNeuralEngine
        )
        let scorer = try artifact.manifest.decoder.scorer.map { scorer in
            try ASRScorer(contentsOf: try artifact.file(scorer.path))
        }
        return try ASRTranscriber(manifest: artifact.manifest, model: model, scorer: scorer)
    }

    /// Loads the model.
    func prepare() async {
        do {
            try await recognizer.prepare()
            ready = true
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

    /// One utterance after the other, until the task is cancelled.
    private func listen() async throws {
        let rate = try await recognizer.prepare().settings.sampleRate
        while !Task.isCancelled {
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
