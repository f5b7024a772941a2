import ASRDelivery
import ASRKit
import Foundation

/// The app's model: the one that came with the app, or a newer one that its publisher shipped.
///
/// `delivery.json` among the resources names the channel, and `publisher.pub` is the key that must have
/// signed what it points at. Without them the app keeps the model that it came with.
actor SpeechModel {
    /// The contents of `delivery.json`.
    private struct Delivery: Decodable {
        let name: String
        let channel: String
        let address: URL
    }

    private let resources: URL
    private let delivery: Delivery?
    private let store: ASRArtifactStore?

    /// - Parameters:
    ///   - resources: the folder with the resources of the app.
    ///   - folder: where fetched models are kept; nil: in Application Support.
    init(resources: URL, folder: URL? = nil) throws {
        self.resources = resources
        let file = resources.appendingPathComponent("delivery.json")
        guard FileManager.default.fileExists(atPath: file.path) else {
            (delivery, store) = (nil, nil)
            return
        }
        delivery = try JSONDecoder().decode(Delivery.self, from: try Data(contentsOf: file))
        let key = try String(contentsOf: resources.appendingPathComponent("publisher.pub"), encoding: .utf8)
        store = try ASRArtifactStore(trusting: [ASRPublicKey(pem: key)], folder: folder)
    }

    /// Whether the app knows a publisher to ask.
    nonisolated var hasPublisher: Bool { store != nil }

    /// The model that is here: fetched before, else the one that the app came with; nil: neither.
    func local() async throws -> ASRArtifact? {
        if let delivery = delivery,
            let kept = try? await store?.installed(delivery.name, channel: delivery.channel)
        {
            return try kept.artifact()
        }
        let bundled = resources.appendingPathComponent("speech.manifest.json")
        guard FileManager.default.fileExists(atPath: bundled.path) else { return nil }
        return try ASRArtifact(named: "speech", in: resources)
    }

    /// The model that the channel points at now, fetched and proven; nil without a publisher.
    ///
    /// - Parameter progress: called with the share that is here, from 0 to 1.
    /// - Throws: `ASRRefused` for what the key did not sign, `ASRDeliveryError.server` without a network.
    func newest(progress: @escaping @Sendable (Double) -> Void) async throws -> ASRArtifact? {
        guard let delivery = delivery, let store = store else { return nil }
        let remote = ASRRemote(delivery.address)
        let pulled = try await store.pull(delivery.name, channel: delivery.channel, from: remote) { part in
            progress(Double(part.bytes) / Double(max(1, part.totalBytes)))
        }
        return try pulled.artifact()
    }

    /// Removes fetched models that the channel no longer points at.
    func cleanUp() async throws { _ = try await store?.cleanUp() }
}
