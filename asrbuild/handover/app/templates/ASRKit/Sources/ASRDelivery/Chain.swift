import Foundation

/// The state of a channel when the app last read it.
struct Sight: Codable, Equatable {
    /// A key that a rotation handed the channel over to, and the keys that did so.
    struct Grant: Codable, Equatable {
        let key: Data
        let by: [String]
    }

    var counter = 0
    var digest = ""
    /// The identity of the remote, once a record named it.
    var remote: String?
    /// Ids of keys whose newer records are refused.
    var retired: Set<String> = []
    /// Keys by their ids.
    var granted: [String: Grant] = [:]
}

/// The records of a channel, proven link by link from the last one seen, or the first, to the newest.
struct Chain {
    let newest: Record
    let seen: Sight

    /// - Parameters:
    ///   - since: what this app saw last.
    ///   - known: the remote's identity, if one of its channels named it.
    /// - Throws: `ASRRefused`; `ASRDeliveryError.notFound` where there is no such channel.
    init(
        _ remote: ASRRemote, _ name: String, _ channel: String, _ trust: Trust, since: Sight, known: String?
    ) async throws {
        let place = "\(name)@\(channel)"
        let hint = try await remote.hint(name, channel)
        var seen = since, trusted = trust
        var identity: String?, last: Record?
        var counter = max(1, since.counter)
        // More records than a channel that moves every hour for ten years has.
        reading: while counter <= 100_000 {
            let ahead = counter..<counter + min(8, max(1, hint - counter + 1))
            // Each batch is proven before the next is asked for: a server may send any answer.
            for (counter, raw) in zip(ahead, try await Self.records(remote, name, channel, ahead)) {
                guard let raw = raw else { break reading }
                let signing = trusted.filter { !seen.retired.contains($0.key) }
                let record = try Record(raw, name: name, channel: channel, counter: counter, trust: signing)
                let bound = last == nil ? since.remote != nil || remote.identity != nil : last?.remote != nil
                try Self.checkLink(record, last, since, bound, place)
                if let stated = record.remote {
                    if identity == nil { identity = try await Self.identity(remote, known) }
                    guard stated == identity else {
                        let own = identity.map { "this one is \(shown($0))" } ?? "this one states no identity"
                        throw ASRRefused(
                            .identityMismatch, "record \(counter) of \(place) was signed for \(shown(stated)), \(own)"
                        )
                    }
                }
                if let new = try record.handedOver() {
                    let by = record.signers.map(\.id).filter { $0 != new.id }
                    if trusted[new.id] == nil { seen.granted[new.id] = Sight.Grant(key: new.raw, by: by) }
                    trusted[new.id] = trusted[new.id] ?? new
                    seen.retired.formUnion(by)
                    seen.retired.remove(new.id)
                }
                last = record
            }
            counter = ahead.upperBound
        }
        guard let newest = last else {
            guard since.counter == 0 else {
                throw ASRRefused(.replayed, "record \(since.counter) of \(place), which was seen before, is gone")
            }
            throw ASRDeliveryError.notFound("channel \(place) on the remote")
        }
        if hint > newest.counter, try await remote.record(name, channel, hint) != nil {
            throw ASRRefused(.forked, "record \(newest.counter + 1) of \(place) is missing, but there is record \(hint)")
        }
        if let unsigned = newest.unsigned { throw unsigned }
        (seen.counter, seen.digest) = (newest.counter, newest.digest)
        seen.remote = newest.remote ?? seen.remote
        self.newest = newest
        self.seen = seen
    }

    private static func identity(_ remote: ASRRemote, _ known: String?) async throws -> String? {
        if let known = remote.identity ?? known { return known }
        return try await remote.statedIdentity()
    }

    private static func records(
        _ remote: ASRRemote, _ name: String, _ channel: String, _ counters: Range<Int>
    ) async throws -> [Data?] {
        try await withThrowingTaskGroup(of: (Int, Data?).self) { group in
            for counter in counters { group.addTask { (counter, try await remote.record(name, channel, counter)) } }
            var found: [Int: Data?] = [:]
            for try await (counter, raw) in group { found[counter] = raw }
            return counters.map { found[$0] ?? nil }
        }
    }

    /// Refuses a record that differs from the one that was seen, or does not follow the last.
    private static func checkLink(
        _ record: Record, _ before: Record?, _ since: Sight, _ bound: Bool, _ place: String
    ) throws {
        var broken: String?
        if record.counter == since.counter {
            if record.digest != since.digest { broken = "is not the one that was seen before" }
        } else if record.previous != before?.digest {
            broken = "does not follow the one before it"
        }
        if record.remote == nil, bound { broken = broken ?? "does not name the remote it is for" }
        guard let broken = broken else { return }
        throw record.unsigned ?? ASRRefused(.forked, "record \(record.counter) of \(place) \(broken)")
    }
}
