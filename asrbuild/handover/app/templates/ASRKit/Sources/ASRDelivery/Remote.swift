import ASRCore
import Foundation

/// A way to fetch the files of a remote: HTTPS by `ASRWebTransport`, or the app's own.
///
/// Its data is verified afterwards, so a transport needs no trust.
public protocol ASRTransport: Sendable {
    /// Names the place, always with the same text: what was seen of its channels is kept under it.
    var address: String { get }

    /// Fetches a file such as `blobs/<sha256>`, a block at a time.
    ///
    /// - Parameters:
    ///   - start: bytes that are here already; a transport that cannot begin there begins at 0.
    ///   - size: bytes that the file has at most: more are not to be kept.
    ///   - receive: takes each block and its place in the file, in order and one at a time. Where it
    ///     throws, the transport stops and throws the same error.
    /// - Returns: false where there is no such file.
    /// - Throws: `ASRDeliveryError.server` where there is no answer.
    func fetch(
        _ path: String, from start: Int, size: Int,
        receive: @escaping @Sendable (_ block: Data, _ at: Int) throws -> Void
    ) async throws -> Bool
}

/// A place that `asrbuild ship` wrote to.
public struct ASRRemote: Sendable {
    let transport: any ASRTransport
    /// The identity that the channels' records must name; nil: the remote's own.
    let identity: String?

    var address: String { transport.address }

    /// A remote in any place.
    ///
    /// - Parameter identity: that of the remote, or the one of the original where this is a mirror:
    ///   `asrbuild channel history` shows it. With it, a new app takes no other remote's channel.
    public init(_ transport: any ASRTransport, identity: String? = nil) {
        self.transport = transport
        self.identity = identity
    }

    /// A remote behind a web server or in a bucket.
    public init(_ url: URL, identity: String? = nil) {
        self.init(ASRWebTransport(url), identity: identity)
    }

    /// A small file, nil where there is none; more bytes than the limit are refused.
    func read(_ path: String, _ limit: Int) async throws -> Data? {
        let arrival = Arrival(limit)
        let kept = Kept()
        let found = try await transport.fetch(path, from: 0, size: limit) { block, at in
            try arrival.admit(block.count, at: at)
            kept.append(block)
        }
        return found ? kept.bytes : nil
    }

    /// An artifact or a set, proven to be the one of this name and version.
    func published(_ name: String, _ version: String, _ trust: Trust) async throws -> (Published, ASRPublicKey, digest: String) {
        let place = "artifacts/\(name)/versions/\(version).json"
        guard let raw = try await read(place, Header.maxBytes) else {
            throw ASRRefused(.fileMissing, "the remote has no \(name) \(version)")
        }
        let published = try Published(raw)
        let signer = try published.signer(trust)
        guard published.identity == (name, version) else {
            throw ASRRefused(.identityMismatch, "the remote has another version in the place of \(name) \(version)")
        }
        return (published, signer, SHA256.hex(raw))
    }

    func record(_ name: String, _ channel: String, _ counter: Int) async throws -> Data? {
        try await read("artifacts/\(name)/channels/\(channel)/\(counter).json", Record.maxBytes)
    }

    /// The number at which the search for the newest record begins; 0 where it is missing or damaged.
    func hint(_ name: String, _ channel: String) async throws -> Int {
        let raw = try await read("artifacts/\(name)/channels/\(channel)/current.json", Record.maxBytes)
        let counter = raw.flatMap { try? CanonicalJSON($0, canonical: false) }?["counter"]?.integer ?? 0
        return (1..<1 << 31).contains(counter) ? counter : 0
    }

    /// The remote's identity in its records; nil where it has none.
    func statedIdentity() async throws -> String? {
        if let identity = identity { return identity }
        let raw = try await read("index.json", 8 << 20)
        let stated = raw.flatMap { try? CanonicalJSON($0, canonical: false) }?["remote"]?.string
        return Names.isIdentity(stated) ? stated : nil
    }
}

/// The bytes of a small file as they arrive.
private final class Kept: @unchecked Sendable {
    // Blocks come one at a time, and the bytes are read after the last.
    private(set) var bytes = Data()

    func append(_ block: Data) { bytes.append(block) }
}

/// The received bytes, up to a limit; a transfer below 64 KiB/s for over a minute is refused.
final class Arrival: @unchecked Sendable {
    // Blocks come one at a time.
    private let limit: Int
    private let deadline: Double
    private let now: () -> Double
    private var count: Int

    /// - Parameters:
    ///   - held: bytes that are here already.
    ///   - now: seconds of a clock that is never set.
    init(_ limit: Int, held: Int = 0, now: @escaping () -> Double = { ProcessInfo.processInfo.systemUptime }) {
        self.limit = limit
        self.now = now
        count = held
        deadline = now() + 60 + Double(limit) / 65_536
    }

    /// Admits so many bytes at a place in the file; a transport may begin anew at 0.
    func admit(_ bytes: Int, at place: Int) throws {
        guard place == count || place == 0 else {
            throw ASRDeliveryError.server("the server sent byte \(place) of a file in place of byte \(count)")
        }
        count = place + bytes
        guard count <= limit else { throw ASRRefused(.tooLarge, "the answer has more than \(limit) bytes") }
        guard now() <= deadline else {
            throw ASRRefused(.tooSlow, "the server sends too slowly")
        }
    }
}
