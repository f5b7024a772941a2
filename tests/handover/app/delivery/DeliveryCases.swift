import Foundation
import XCTest

import ASRCore
@testable import ASRDelivery

/// Repeats the pulls that `recorder.py` recorded of Python's reader, and writes down the outcomes.
final class DeliveryCases: XCTestCase {
    private struct Case: Codable {
        let `case`: String
        var steps: [Step]
    }

    private struct Step: Codable {
        let file, address, remote, identity, name, version, channel, system: String?
        let keys: [String]
        let fresh, background: Bool?
        let time: Double
        var outcome: String
        var given: [[String]]
    }

    func testOutcomesAreThoseOfPython() async throws {
        // Run by tests/handover/app/test_delivery.py alone.
        guard let place = ProcessInfo.processInfo.environment["ASRKIT_DELIVERY"] else { return }
        let folder = URL(fileURLWithPath: place)
        let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: folder.appendingPathComponent("cases.json")))
        var found: [Case] = []
        for (number, one) in cases.enumerated() {
            var repeated = one
            let store = folder.appendingPathComponent("stores/\(number)")
            for (index, step) in one.steps.enumerated() {
                let before = visible(store)
                let (outcome, given) = await outcome(step, store)
                repeated.steps[index].outcome = outcome
                repeated.steps[index].given = given
                if outcome != "ok" { XCTAssertEqual(visible(store), before, "\(one.case): something is visible") }
            }
            found.append(repeated)
        }
        try JSONEncoder().encode(found).write(to: folder.appendingPathComponent("found.json"))
    }

    private func outcome(_ step: Step, _ folder: URL) async -> (String, [[String]]) {
        do {
            let keys = try step.keys.map { try ASRPublicKey(raw: Data(base64Encoded: $0) ?? Data()) }
            let store = try ASRArtifactStore(trusting: keys, folder: folder, now: { step.time })
            let system = step.system.map { text in
                ASRSystemVersion(
                    name: String(text.prefix { !$0.isNumber }), version: String(text.drop { !$0.isNumber })
                )
            } ?? ASRSystemVersion(name: "", version: "")
            let pulled: ASRPulled
            if let file = step.file {
                pulled = try await store.unpack(URL(fileURLWithPath: file), for: system)
            } else {
                let address = step.address ?? "", name = step.name ?? ""
                let remote = try step.remote.map { folder in
                    ASRRemote(Folder(address: address, folder: URL(fileURLWithPath: folder)), identity: step.identity)
                } ?? ASRRemote(try web(address, step.background, folder), identity: step.identity)
                if let version = step.version {
                    pulled = try await store.pull(name, version: version, from: remote, for: system)
                } else {
                    pulled = try await store.pull(
                        name, channel: step.channel ?? "", from: remote, for: system, fresh: step.fresh ?? false
                    )
                }
            }
            _ = try pulled.artifact()
            return ("ok", [[pulled.name, pulled.version, pulled.folder.path]])
        } catch let refused as ASRRefused {
            return (refused.reason.rawValue, [])
        } catch is ASRDeliveryError {
            return ("error", [])
        } catch {
            return ("\(error)", [])
        }
    }

    private func web(_ address: String, _ background: Bool?, _ store: URL) throws -> any ASRTransport {
        let url = try XCTUnwrap(URL(string: address))
        guard background == true else { return ASRWebTransport(url) }
        // Here no session goes on in the background; what arrived is kept and taken in the same way.
        return try ASRBackgroundTransport(url, .ephemeral, store.appendingPathExtension("arrived"))
    }

    /// Every file of the artifacts that the store shows.
    private func visible(_ store: URL) -> [String] {
        let folder = store.appendingPathComponent("artifacts")
        return ((try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []).sorted()
    }

    // A store over its life ---------------------------------------------------------------------

    private struct Life: Codable {
        /// The publisher's key; its name for the artifact; the remote before and after the channel moved.
        let key, name, before, after: String
    }

    private func life() throws -> Life? {
        guard let place = ProcessInfo.processInfo.environment["ASRKIT_DELIVERY_LIFE"] else { return nil }
        return try JSONDecoder().decode(Life.self, from: Data(contentsOf: URL(fileURLWithPath: place)))
    }

    private func store(_ life: Life, _ folder: URL) throws -> ASRArtifactStore {
        let key = try ASRPublicKey(raw: Data(base64Encoded: life.key) ?? Data())
        return try ASRArtifactStore(trusting: [key], folder: folder)
    }

    private func emptyFolder() -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("store-\(UUID().uuidString)")
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        return folder
    }

    func testVersionsComeAndGo() async throws {
        guard let life = try life() else { return }
        let folder = emptyFolder(), store = try store(life, folder)
        let before = Folder(address: "here", folder: URL(fileURLWithPath: life.before))
        let after = Folder(address: "here", folder: URL(fileURLWithPath: life.after))
        let none = try await store.installed(life.name)
        XCTAssertNil(none)
        let seen = Seen()
        let old = try await store.pull(life.name, from: ASRRemote(before), for: ios) { seen.add($0) }
        XCTAssertGreaterThan(old.fetchedBytes, 0)
        XCTAssertEqual(seen.all.map(\.bytes), seen.all.map(\.bytes).sorted())
        XCTAssertEqual(seen.all.last.map { $0.bytes == $0.totalBytes }, true)
        // What is here and whole asks for the channel and the header alone.
        let asked = Asked(before)
        let again = try await store.pull(life.name, from: ASRRemote(asked), for: ios)
        XCTAssertEqual([again.folder.path, "\(again.fetchedBytes)"], [old.folder.path, "0"])
        XCTAssertEqual(asked.paths.filter { $0.hasPrefix("blobs/") }, [])
        // Of the next version only what is new is fetched.
        let moved = Asked(after)
        let new = try await store.pull(life.name, from: ASRRemote(moved), for: ios)
        XCTAssertNotEqual(new.folder, old.folder)
        let blobs = moved.paths.filter { $0.hasPrefix("blobs/") }
        XCTAssertEqual(Set(blobs).count, blobs.count)
        XCTAssertLessThan(blobs.count, try FileManager.default.subpathsOfDirectory(atPath: new.folder.path).count - 1)
        let offline = try await store.installed(life.name, channel: "stable")
        XCTAssertEqual(offline?.folder, new.folder)
        // The old one was given out, so it stays for as long as this store.
        let kept = try await store.cleanUp()
        XCTAssertEqual(kept, [])
        let next = try self.store(life, folder)
        let removed = try await next.cleanUp()
        XCTAssertEqual(removed, ["\(old.name) \(old.version)"])
        XCTAssertFalse(FileManager.default.fileExists(atPath: old.folder.path))
        let opened = try await next.installed(life.name)
        XCTAssertEqual(try opened?.artifact().manifest.version, new.version)
        // The channel does not go back, and the artifact stays as it is.
        await refused(.replayed) { _ = try await next.pull(life.name, from: ASRRemote(before), for: ios) }
        // An update of the app that no longer trusts the key uses nothing that it signed.
        let stranger = try ASRPublicKey(raw: Data(repeating: 9, count: 32))
        let other = try ASRArtifactStore(trusting: [stranger], folder: folder)
        await refused(.untrustedSigner) { _ = try await other.installed(life.name) }
    }

    func testDamageIsFoundAndRepaired() async throws {
        guard let life = try life() else { return }
        let folder = emptyFolder(), store = try store(life, folder)
        let remote = Folder(address: "here", folder: URL(fileURLWithPath: life.before))
        let pulled = try await store.pull(life.name, from: ASRRemote(remote), for: ios)
        let files = FileManager.default
        for damage in ["flipped", "short", "more", "link"] {
            let file = pulled.folder.appendingPathComponent("manifest.json")
            let whole = try Data(contentsOf: file)
            try files.removeItem(at: file)
            switch damage {
            case "flipped": try Data(whole.map { $0 == 0x61 ? 0x62 : $0 }).write(to: file)
            case "short": try whole.dropLast().write(to: file)
            case "link": try files.createSymbolicLink(at: file, withDestinationURL: URL(fileURLWithPath: "/etc/passwd"))
            default:
                try whole.write(to: file)
                try whole.write(to: pulled.folder.appendingPathComponent("more"))
            }
            if damage != "flipped" { await refused(.digestMismatch) { _ = try await store.installed(life.name) } }
            let asked = Asked(remote)
            let repaired = try await store.pull(life.name, from: ASRRemote(asked), for: ios)
            XCTAssertEqual(try Data(contentsOf: file), whole, damage)
            XCTAssertFalse(files.fileExists(atPath: pulled.folder.appendingPathComponent("more").path))
            XCTAssertEqual(repaired.folder, pulled.folder)
            // The files that are sound are taken from where they are.
            XCTAssertLessThanOrEqual(asked.paths.filter { $0.hasPrefix("blobs/") }.count, 1, damage)
        }
        XCTAssertEqual(try files.contentsOfDirectory(atPath: folder.appendingPathComponent("incoming").path), [])
        try Data("{".utf8).write(to: folder.appendingPathComponent("state.json"))
        do {
            _ = try await store.pull(life.name, from: ASRRemote(remote), for: ios)
            XCTFail("a store without its memory went on")
        } catch { XCTAssertEqual(error as? ASRDeliveryError, .stateUnreadable("state.json")) }
    }

    func testACancelledPullGoesOn() async throws {
        guard let life = try life() else { return }
        let folder = emptyFolder(), store = try store(life, folder)
        let whole = Folder(address: "here", folder: URL(fileURLWithPath: life.before))
        let stuck = Stuck(base: whole)
        let task = Task { try await store.pull(life.name, from: ASRRemote(stuck), for: ios) }
        // Another one waits for its turn, and is cancelled there.
        let waiting = Task { try await store.pull(life.name, from: ASRRemote(whole), for: ios) }
        waiting.cancel()
        for _ in 0..<1000 where !stuck.isStuck { try await Task.sleep(nanoseconds: 10_000_000) }
        XCTAssertTrue(stuck.isStuck)
        task.cancel()
        for one in [task, waiting] {
            do {
                _ = try await one.value
                XCTFail("a cancelled pull gave an artifact")
            } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
        }
        XCTAssertEqual(visible(folder), [])
        // Two at once: one fetches, the other finds it there; what came before is not fetched again.
        let asked = Asked(whole)
        async let one = store.pull(life.name, from: ASRRemote(asked), for: ios)
        async let two = store.pull(life.name, from: ASRRemote(asked), for: ios)
        let both = try await [one, two]
        XCTAssertEqual(both[0].folder, both[1].folder)
        XCTAssertEqual(both.map(\.fetchedBytes).min(), 0)
        XCTAssertTrue(asked.starts.contains { $0 > 0 }, "it went on where it was stuck")
        let blobs = asked.paths.filter { $0.hasPrefix("blobs/") }
        XCTAssertEqual(Set(blobs).count, blobs.count)
        XCTAssertTrue(Set(blobs).isDisjoint(with: stuck.done))
        // What of the beginning is wrong is fetched again.
        let other = emptyFolder(), incoming = other.appendingPathComponent("incoming")
        let fresh = try self.store(life, other)
        for blob in blobs {
            try Data("no".utf8).write(to: incoming.appendingPathComponent(String(blob.dropFirst(6))))
        }
        let pulled = try await fresh.pull(life.name, from: ASRRemote(whole), for: ios)
        XCTAssertEqual(pulled.version, both[0].version)
    }

    func testWhatDoesNotRunIsNotFetched() async throws {
        guard let life = try life() else { return }
        let store = try store(life, emptyFolder())
        let asked = Asked(Folder(address: "here", folder: URL(fileURLWithPath: life.before)))
        for (system, most) in [(ASRSystemVersion(name: "iOS", version: "9"), nil), (ios, 10)] {
            do {
                _ = try await store.pull(life.name, from: ASRRemote(asked), for: system, maxBytes: most)
                XCTFail("it does not run here")
            } catch { XCTAssertTrue("\(error)".hasPrefix("doesNotRun"), "\(error)") }
        }
        // The manifest alone.
        XCTAssertEqual(asked.paths.filter { $0.hasPrefix("blobs/") }.count, 1)
        await refused(.expired) { _ = try await store.pull(life.name, from: ASRRemote(asked), for: ios, fresh: true) }
    }

    private func refused(_ reason: ASRRefusal, _ work: () async throws -> Void) async {
        do {
            try await work()
            XCTFail("not refused: \(reason)")
        } catch { XCTAssertEqual((error as? ASRRefused)?.reason, reason, "\(error)") }
    }
}

private let ios = ASRSystemVersion(name: "iOS", version: "18")

/// A copy of a remote's folder, under the remote's address.
private struct Folder: ASRTransport {
    let address: String
    let folder: URL

    func fetch(
        _ path: String, from start: Int, size: Int, receive: @escaping @Sendable (Data, Int) throws -> Void
    ) async throws -> Bool {
        let url = folder.appendingPathComponent(path)
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue else {
            return false
        }
        let handle = try FileHandle(forReadingFrom: url)
        try handle.seek(toOffset: UInt64(start))
        var place = start
        while let block = try handle.read(upToCount: 1 << 12), !block.isEmpty {
            try receive(block, place)
            place += block.count
        }
        return true
    }
}

/// Notes what is asked for.
private final class Asked: ASRTransport, @unchecked Sendable {
    private let lock = NSLock()
    private let base: Folder
    private(set) var paths: [String] = []
    private(set) var starts: [Int] = []
    var address: String { base.address }

    init(_ base: Folder) { self.base = base }

    func fetch(
        _ path: String, from start: Int, size: Int, receive: @escaping @Sendable (Data, Int) throws -> Void
    ) async throws -> Bool {
        lock.withLock {
            paths.append(path)
            starts.append(start)
        }
        return try await base.fetch(path, from: start, size: size, receive: receive)
    }
}

/// Sends a block of one large file, and then nothing more until it is cancelled.
private final class Stuck: ASRTransport, @unchecked Sendable {
    private struct Enough: Error {}

    private let lock = NSLock()
    private let base: Folder
    private(set) var isStuck = false
    private(set) var done: Set<String> = []
    var address: String { base.address }

    init(base: Folder) { self.base = base }

    func fetch(
        _ path: String, from start: Int, size: Int, receive: @escaping @Sendable (Data, Int) throws -> Void
    ) async throws -> Bool {
        guard path.hasPrefix("blobs/") else { return try await base.fetch(path, from: start, size: size, receive: receive) }
        guard size > 100_000 else {
            let found = try await base.fetch(path, from: start, size: size, receive: receive)
            lock.withLock { _ = done.insert(path) }
            return found
        }
        do {
            _ = try await base.fetch(path, from: start, size: size) { block, place in
                if place >= 40_000 { throw Enough() }
                try receive(block, place)
            }
        } catch is Enough {
            // The small files arrive meanwhile.
            try await Task.sleep(nanoseconds: 300_000_000)
            lock.withLock { isStuck = true }
            try await Task.sleep(nanoseconds: 60_000_000_000)
        }
        return true
    }
}

/// Progress as it was reported.
private final class Seen: @unchecked Sendable {
    private let lock = NSLock()
    private(set) var all: [ASRPullProgress] = []

    func add(_ progress: ASRPullProgress) { lock.withLock { all.append(progress) } }
}
