#if canImport(CoreML) && (os(iOS) || os(macOS))
import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore

/// Measures the package in `measured` on this device and attaches `evidence.json`: what
/// `measure.py` does on a Mac, in the same format.
final class EvidenceTests: XCTestCase {
    func testMeasure() async throws {
        let environment = ProcessInfo.processInfo.environment
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "measured", withExtension: nil))
        let kit = try JSONDecoder().decode(
            Kit.self, from: try Data(contentsOf: folder.appendingPathComponent("kit.json"))
        )
        let artifact = try ASRArtifact(folder: folder).selecting(function: kit.function)
        XCTAssertEqual(
            artifact.manifest.packageDigest, kit.package_sha256, "the package is not the one of the kit"
        )
        var test = try ASRDeviceTest(artifact)
        test.passes = Int(environment["ASRKIT_PASSES"] ?? "") ?? 100
        test.cacheCleared = environment["ASRKIT_CACHE_CLEARED"] == "1"
        test.operations = kit.ops.map { $0[1] }
        test.runner = "ASRKitEvidence"
        let data = try await test.run()
        let attachment = XCTAttachment(data: data, uniformTypeIdentifier: "public.json")
        attachment.name = "evidence.json"
        attachment.lifetime = .keepAlways
        add(attachment)
        print("ASRKIT_EVIDENCE BEGIN\n\(String(decoding: data, as: UTF8.self))\nASRKIT_EVIDENCE END")
    }
}

/// `kit.json`: what the kit was made for.
private struct Kit: Decodable {
    let function: String
    let package_sha256: String
    let ops: [[String]]
}
#endif
