import Foundation
import XCTest

@testable import ASRKit

final class LoadingTests: XCTestCase {
    private final class Loaded: AcousticModel {
        func makeState() throws -> AnyObject? { nil }

        func predict(
            _ inputs: [String: Tensor], state: AnyObject?
        ) throws -> [String: Tensor] { [:] }
    }

    func testAVariantThatFailsToLoadFallsBackToTheNext() throws {
        let files = try [("model.aimodel", "27"), ("model.mlmodelc", "17")].map { name, least in
            var manifest = try Artifact().manifest
            manifest.model.minimumOs = ["iOS": least]
            return ModelFile(url: URL(fileURLWithPath: "/" + name), manifest: manifest)
        }
        let expected = [("27.1", 2), ("26.4", 1), ("16", 0)]
        for (version, count) in expected {
            var tried: [String] = []
            let system = SystemVersion(name: "iOS", version: version)
            let load = {
                try files.loadFirst(on: system) { file in
                    tried.append(file.url.lastPathComponent)
                    if file.url.pathExtension == "aimodel" { throw ASRError.finished }
                    return Loaded()
                }
            }
            if count == 0 {
                XCTAssertThrowsError(try load())
            } else {
                XCTAssertEqual(try load().manifest, files[1].manifest)
            }
            let names = files.map { $0.url.lastPathComponent }
            XCTAssertEqual(tried, Array(names.suffix(count)), version)
        }
    }
}
