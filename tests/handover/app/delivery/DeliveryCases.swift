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
        let fresh: Bool?
        let time: Double
        var outcome: String
        var given: [[String]]
    }

    /// A copy of a remote's folder, under the remote's address.
    private struct Folder: ASRTransport {
        let address: String
        let folder: URL

        func fetch(
            _ path: String, from start: Int, receive: @escaping @Sendable (Data, Int) throws -> Void
        ) async throws -> Bool {
            let url = folder.appendingPathComponent(path)
            var isFolder: ObjCBool = false
            guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue else {
                return false
            }
            let handle = try FileHandle(forReadingFrom: url)
            try handle.seek(toOffset: UInt64(start))
            var place = start
            while let block = try handle.read(upToCount: 1 << 16), !block.isEmpty {
                try receive(block, place)
                place += block.count
            }
            return true
        }
    }

    func testTheOutcomesArePythons() async throws {
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
                let copy = Folder(address: step.address ?? "", folder: URL(fileURLWithPath: step.remote ?? ""))
                let remote = ASRRemote(copy, identity: step.identity), name = step.name ?? ""
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

    /// Every file of the artifacts that the store shows.
    private func visible(_ store: URL) -> [String] {
        let folder = store.appendingPathComponent("artifacts")
        return ((try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []).sorted()
    }
}
