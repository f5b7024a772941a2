import ASRCore
import Foundation

/// Artifacts in an app's container, fetched from a remote or taken out of a bundle file.
///
/// Of an artifact nothing is visible before a trusted key's signature and every digest are proven;
/// then it appears in one step. A channel is never taken to be older than this app saw it. What was
/// fetched of an artifact that broke off is kept for the next time. The folder leaves no backup, and
/// is of one store of one process.
public actor ASRArtifactStore {
    private let shelf: Shelf
    private let keys: Trust
    private let now: @Sendable () -> Double
    /// Digests of the headers of artifacts that were given out: they stay.
    private var inUse: Set<String> = []
    private var last: Task<Void, Never>?

    /// A store that accepts what one of these keys signed.
    ///
    /// - Parameters:
    ///   - keys: the publishers' keys, of which the app has copies.
    ///   - folder: nil: `ASRKit/artifacts` in Application Support.
    public init(trusting keys: [ASRPublicKey], folder: URL? = nil) throws {
        try self.init(trusting: keys, folder: folder, now: { Date().timeIntervalSince1970 })
    }

    package init(trusting keys: [ASRPublicKey], folder: URL?, now: @escaping @Sendable () -> Double) throws {
        let files = FileManager.default
        shelf = Shelf(
            root: try folder ?? files.url(
                for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
            ).appendingPathComponent("ASRKit/artifacts", isDirectory: true)
        )
        self.keys = Dictionary(keys.map { ($0.id, $0) }) { first, _ in first }
        self.now = now
        try files.createDirectory(at: shelf.incoming, withIntermediateDirectories: true)
        #if !os(Linux)
        var root = shelf.root
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        try root.setResourceValues(values)
        #endif
    }

    /// The artifact that a channel points at; of a set, the first variant that runs here.
    ///
    /// Where it is here and whole, only the channel is asked for. Cancelling the task stops it; the
    /// next call goes on with what was fetched.
    ///
    /// - Parameters:
    ///   - system: that the artifact must run on.
    ///   - maxBytes: the largest Core ML package; nil: any.
    ///   - fresh: requires an expiry of the channel's record that is not over, so that an old state is
    ///     noticed by a new app as well.
    ///   - progress: called at each block, on any thread.
    /// - Throws: `ASRRefused`; `ASRDeliveryError`; `CancellationError`; the disk's errors.
    public func pull(
        _ name: String, channel: String = "stable", from remote: ASRRemote, for system: ASRSystemVersion = .current,
        maxBytes: Int? = nil, fresh: Bool = false, progress: @escaping @Sendable (ASRPullProgress) -> Void = { _ in }
    ) async throws -> ASRPulled {
        try await alone {
            let (name, channel) = (try Names.name(name), try Names.channel(channel))
            let record = try await self.follow(remote, name, channel, fresh: fresh)
            let wanted = Wanted(system: system, maxBytes: maxBytes, channel: channel, progress: progress)
            return try await self.take(remote, name, record.version, digest: record.header, wanted)
        }
    }

    /// An artifact, or the variant of a set, of a whole version.
    ///
    /// - Throws: as the other `pull`.
    public func pull(
        _ name: String, version: String, from remote: ASRRemote, for system: ASRSystemVersion = .current,
        maxBytes: Int? = nil, progress: @escaping @Sendable (ASRPullProgress) -> Void = { _ in }
    ) async throws -> ASRPulled {
        try await alone {
            let (name, version) = (try Names.name(name), try Names.version(version))
            let wanted = Wanted(system: system, maxBytes: maxBytes, channel: nil, progress: progress)
            return try await self.take(remote, name, version, digest: nil, wanted)
        }
    }

    /// An artifact out of a `.asrb` file, which the app has with it or was given.
    ///
    /// - Throws: as `pull`.
    public func unpack(
        _ file: URL, for system: ASRSystemVersion = .current, maxBytes: Int? = nil
    ) async throws -> ASRPulled {
        try await alone { try await self.takeOut(file, system, maxBytes) }
    }

    /// The artifact that the last pull gave, without a network; nil where there was none.
    ///
    /// Sizes are compared, not every byte: `pull` does that.
    ///
    /// - Parameter channel: the last pull of this channel; nil: of any.
    /// - Throws: `ASRRefused` if a file is missing or changed, or no trusted key signed it.
    public func installed(_ name: String, channel: String? = nil) throws -> ASRPulled? {
        let state = try State(contentsOf: stateFile)
        let digest = state.current[channel.map { "\(name)@\($0)" } ?? name]
        guard let digest = digest, let header = shelf.headers().first(where: { $0.digest == digest }) else { return nil }
        let signer = try header.signer(state.trust(keys))
        guard try shelf.holds(header, everyByte: false) else {
            throw ASRRefused(.digestMismatch, "\(header.name) \(header.version) is no longer whole: pull it again")
        }
        return give(header, signer, fetched: 0)
    }

    /// Removes artifacts that no channel or last pull points at, but none that this store gave out.
    ///
    /// - Returns: names and versions of what was removed.
    public func cleanUp() async throws -> [String] {
        try await alone { try await self.removeUnused() }
    }

    private var stateFile: URL { shelf.root.appendingPathComponent("state.json") }

    private struct Wanted: Sendable {
        let system: ASRSystemVersion
        let maxBytes: Int?
        let channel: String?
        let progress: @Sendable (ASRPullProgress) -> Void
    }

    /// One piece of work after the other.
    private func alone<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let before = last
        let task = Task {
            await before?.value
            try Task.checkCancellation()
            return try await work()
        }
        last = Task { _ = await task.result }
        return try await withTaskCancellationHandler { try await task.value } onCancel: { task.cancel() }
    }

    /// The newest record of a channel, which is remembered.
    private func follow(_ remote: ASRRemote, _ name: String, _ channel: String, fresh: Bool) async throws -> Record {
        var state = try State(contentsOf: stateFile)
        let before = state
        let (since, known) = state.sight(remote, name, channel)
        let chain = try await Chain(remote, name, channel, state.trust(keys), since: since, known: known)
        if fresh, chain.newest.expires.map({ $0 <= now() }) ?? true {
            let what = chain.newest.expires == nil ? "has no expiry" : "has expired"
            throw ASRRefused(.expired, "record \(chain.newest.counter) of \(name)@\(channel) \(what)")
        }
        state.channels[State.place(remote, name, channel)] = chain.seen
        if state != before { try state.write(to: stateFile) }
        return chain.newest
    }

    private func take(
        _ remote: ASRRemote, _ name: String, _ version: String, digest: String?, _ wanted: Wanted
    ) async throws -> ASRPulled {
        let trust = try State(contentsOf: stateFile).trust(keys)
        let (published, by, found) = try await remote.published(name, version, trust)
        guard found == digest ?? found else {
            throw ASRRefused(.identityMismatch, "\(name) \(version) is not the one that the channel was pointed at")
        }
        var (header, signer, variant, set) = (Header?.none, by, Variant?.none, String?.none)
        switch published {
        case .artifact(let own): header = own
        case .set(_, _, let variants, _):
            let chosen = try Variant.choose(variants, wanted.system, wanted.maxBytes)
            let (member, key, digest) = try await remote.published(chosen.name, chosen.version, trust)
            guard digest == chosen.header else {
                throw ASRRefused(.identityMismatch, "\(chosen.name) \(chosen.version) is not the one that is in the set")
            }
            if case .artifact(let own) = member { header = own }
            (signer, variant, set) = (key, chosen, "\(name) \(version)")
        }
        guard let header = header else { throw ASRRefused(.unknownFormat, "the set contains a set") }
        let fetched = try await fetch(header, remote, variant, wanted)
        try remember(header, [name, header.name], wanted.channel)
        return give(header, signer, fetched: fetched, set: set)
    }

    /// Fetches what is not here, and publishes it; the number of bytes, 0 where it was here.
    private func fetch(_ header: Header, _ remote: ASRRemote, _ variant: Variant?, _ wanted: Wanted) async throws -> Int {
        if try shelf.holds(header, everyByte: true) {
            try check(header, at: shelf.folder(header).appendingPathComponent("manifest.json"), variant, wanted)
            try shelf.keep(header)
            return 0
        }
        let blobs = Blobs(folder: shelf.incoming), tally = Tally(header, wanted.progress)
        let copies = copies()
        // The manifest first: of what does not run here nothing else is fetched.
        let manifest = try header.file("manifest.json")
        try await blobs.bring(manifest, from: remote, copy: copies[manifest.sha256]) { tally.count($0, of: manifest) }
        try check(header, at: blobs.url(manifest), variant, wanted)
        var rest = Dictionary(header.files.map { ($0.sha256, $0) }) { first, _ in first }.values
            .filter { $0.sha256 != manifest.sha256 }.sorted { $0.bytes > $1.bytes }[...]
        try await withThrowingTaskGroup(of: Void.self) { group in
            var started = 0
            while let file = rest.popFirst() {
                if started >= 4 { try await group.next() }
                started += 1
                group.addTask {
                    try await blobs.bring(file, from: remote, copy: copies[file.sha256]) { tally.count($0, of: file) }
                }
            }
            try await group.waitForAll()
        }
        try shelf.publish(header) { folder in
            for file in header.files {
                let url = folder.appendingPathComponent(file.path)
                try FileManager.default.createDirectory(
                    at: url.deletingLastPathComponent(), withIntermediateDirectories: true
                )
                try FileManager.default.linkItem(at: blobs.url(file), to: url)
            }
        }
        for file in header.files { try? FileManager.default.removeItem(at: blobs.url(file)) }
        return header.total
    }

    private func takeOut(_ file: URL, _ system: ASRSystemVersion, _ maxBytes: Int?) throws -> ASRPulled {
        let bundle = try BundleFile(file)
        let trust = try State(contentsOf: stateFile).trust(keys)
        try bundle.prove(trust)
        let wanted = Wanted(system: system, maxBytes: maxBytes, channel: nil, progress: { _ in })
        var (header, variant) = (bundle.headers[0], Variant?.none)
        if !bundle.variants.isEmpty {
            let chosen = try Variant.choose(bundle.variants, system, maxBytes)
            guard let own = bundle.headers.first(where: { $0.digest == chosen.header }) else {
                throw ASRRefused(.fileMissing, "it no longer has \(chosen.name) \(chosen.version)")
            }
            (header, variant) = (own, chosen)
        }
        let isHere = try shelf.holds(header, everyByte: true)
        if isHere {
            try check(header, at: shelf.folder(header).appendingPathComponent("manifest.json"), variant, wanted)
            try shelf.keep(header)
        } else {
            try shelf.publish(header) { folder in
                try bundle.unpack(header, into: folder)
                try check(header, at: folder.appendingPathComponent("manifest.json"), variant, wanted)
            }
        }
        try remember(header, [header.name], nil)
        return give(header, try header.signer(trust), fetched: isHere ? 0 : header.total)
    }

    /// Refuses a manifest that contradicts what was signed, and an artifact that does not run here.
    private func check(_ header: Header, at url: URL, _ variant: Variant?, _ wanted: Wanted) throws {
        let manifest = try Manifest(try Data(contentsOf: url))
        try header.check(manifest: manifest)
        if let variant = variant {
            try variant.check(manifest, of: header)
        } else if !wanted.system.name.isEmpty {
            _ = try Variant.choose([Variant(manifest, of: header)], wanted.system, wanted.maxBytes)
        }
    }

    /// Files of the artifacts that are here, by their digests.
    private func copies() -> [String: URL] {
        var found: [String: URL] = [:]
        for header in shelf.headers() {
            for file in header.files { found[file.sha256] = shelf.folder(header).appendingPathComponent(file.path) }
        }
        return found
    }

    private func remember(_ header: Header, _ names: Set<String>, _ channel: String?) throws {
        var state = try State(contentsOf: stateFile)
        let before = state
        for name in names {
            state.current[name] = header.digest
            if let channel = channel { state.current["\(name)@\(channel)"] = header.digest }
        }
        if state != before { try state.write(to: stateFile) }
    }

    private func give(_ header: Header, _ signer: ASRPublicKey, fetched: Int, set: String? = nil) -> ASRPulled {
        inUse.insert(header.digest)
        return ASRPulled(
            name: header.name, version: header.version, signer: signer, folder: shelf.folder(header),
            fetchedBytes: fetched, set: set
        )
    }

    private func removeUnused() throws -> [String] {
        let state = try State(contentsOf: stateFile)
        return try shelf.remove(but: inUse.union(state.current.values))
    }
}

/// Counts the bytes of an artifact's files that are here.
private final class Tally: @unchecked Sendable {
    private let lock = NSLock()
    private var counts: [SignedFile: Int] = [:]
    private var count = 0
    private let header: Header
    private let total: Int
    private let progress: @Sendable (ASRPullProgress) -> Void

    init(_ header: Header, _ progress: @escaping @Sendable (ASRPullProgress) -> Void) {
        self.header = header
        self.progress = progress
        total = Dictionary(header.files.map { ($0.sha256, $0.bytes) }) { first, _ in first }.values.reduce(0, +)
    }

    func count(_ bytes: Int, of file: SignedFile) {
        let sum = lock.withLock { () -> Int in
            count += bytes - (counts.updateValue(bytes, forKey: file) ?? 0)
            return count
        }
        progress(ASRPullProgress(name: header.name, version: header.version, bytes: sum, totalBytes: total))
    }
}
