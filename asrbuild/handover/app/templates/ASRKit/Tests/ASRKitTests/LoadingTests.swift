import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

final class LoadingTests: XCTestCase {
    func testAVariantThatFailsToLoadFallsBackToTheNext() async throws {
        let files = try [("model.aimodel", "27"), ("model.mlmodelc", "17")].map { name, least in
            var manifest = try Artifact().manifest
            manifest.model.minimumOs = ["iOS": least]
            return ASRModelFile(url: URL(fileURLWithPath: "/" + name), manifest: manifest)
        }
        let expected = [("27.1", 2), ("26.4", 1), ("16", 0)]
        for (version, count) in expected {
            var tried: [String] = []
            let system = ASRSystemVersion(name: "iOS", version: version)
            let loaded = try? await files.loadFirst(on: system) { file in
                tried.append(file.url.lastPathComponent)
                if file.url.pathExtension == "aimodel" { throw ASRError.finished }
                return Scripted(file.manifest)
            }
            XCTAssertEqual(loaded?.manifest, count == 0 ? nil : files[1].manifest)
            let names = files.map { $0.url.lastPathComponent }
            XCTAssertEqual(tried, Array(names.suffix(count)), version)
        }
    }

    /// The package's own minimum is no part of the kit, whose bytes are the same for all.
    func testASystemThatIsTooOldIsRefused() throws {
        var manifest = try Artifact().manifest
        manifest.model.minimumOs = ["iOS": "17", "macOS": "14.2"]
        for (name, version) in [("iOS", "16.7.1"), ("macOS", "14.1")] {
            let system = ASRSystemVersion(name: name, version: version)
            XCTAssertThrowsError(try manifest.requireSystem(system)) { error in
                XCTAssertTrue("\(error)".contains("\(name) \(version): the package requires"))
            }
        }
        for (name, version) in [("iOS", "17"), ("macOS", "14.2.0"), ("", "6")] {
            try manifest.requireSystem(ASRSystemVersion(name: name, version: version))
        }
    }

    func testANeuralNetworkInSinglePrecisionAsksForTheCPU() throws {
        var manifest = try Artifact().manifest
        manifest.model.recommendedComputeUnits = .all
        for (format, precision, units) in [
            (ASRManifest.Model.Format.neuralnetwork, ASRManifest.Model.ComputePrecision.fp32, "CPU_ONLY"),
            (.neuralnetwork, .fp16, "ALL"), (.mlprogram, .fp32, "ALL"),
        ] {
            manifest.model.format = format
            manifest.model.computePrecision = precision
            XCTAssertEqual(manifest.computeUnits.rawValue, units)
        }
    }
}
