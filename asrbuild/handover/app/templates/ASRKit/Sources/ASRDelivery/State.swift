import Foundation

/// The state that an app keeps between its runs, in `state.json` of the store's folder.
struct State: Codable, Equatable {
    /// The last state of each channel: `<address>#<name>@<channel>`.
    var channels: [String: Sight] = [:]
    /// The header digest of the artifact that the last pull gave: by `<name>` and `<name>@<channel>`.
    var current: [String: String] = [:]

    /// - Throws: `ASRDeliveryError.stateUnreadable`: without it, an old state could not be noticed.
    init(contentsOf url: URL) throws {
        guard FileManager.default.fileExists(atPath: url.path) else { return }
        do { self = try JSONDecoder().decode(State.self, from: try Data(contentsOf: url)) } catch {
            throw ASRDeliveryError.stateUnreadable(url.lastPathComponent)
        }
    }

    func write(to url: URL) throws {
        try JSONEncoder().encode(self).write(to: url, options: .atomic)
    }

    /// The app's keys, and those that channels were handed over to by them.
    func trust(_ keys: Trust) -> Trust {
        var trust = keys
        let grants = channels.values.flatMap(\.granted)
        // A key that was handed over may have handed over in turn.
        for _ in grants {
            for (id, grant) in grants where trust[id] == nil && grant.by.contains(where: { trust[$0] != nil }) {
                trust[id] = try? ASRPublicKey(raw: grant.key)
            }
        }
        return trust
    }

    /// The last state of a channel, and the identity that any channel of this remote named.
    func sight(_ remote: ASRRemote, _ name: String, _ channel: String) -> (Sight, identity: String?) {
        let known = channels.filter { $0.key.hasPrefix(remote.address + "#") }.compactMap(\.value.remote).first
        return (channels[Self.place(remote, name, channel)] ?? Sight(), known)
    }

    static func place(_ remote: ASRRemote, _ name: String, _ channel: String) -> String {
        "\(remote.address)#\(name)@\(channel)"
    }
}
