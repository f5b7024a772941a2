import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML
@testable import ASRSession

final class ManifestTests: XCTestCase {
    private func raw() throws -> [String: Any] {
        let url = try Artifact().folder.appendingPathComponent("manifest.json")
        let object = try JSONSerialization.jsonObject(with: try Data(contentsOf: url))
        return try XCTUnwrap(object as? [String: Any])
    }

    private func read(_ object: [String: Any]) throws -> ASRManifest {
        try ASRManifest.read(try JSONSerialization.data(withJSONObject: object))
    }

    /// The values that run the model are read; provenance and proof are not.
    func testOnlyWhatRunsTheModelIsRead() throws {
        var object = try raw()
        let whole = try read(object)
        object["verification"] = nil
        object["provenance"] = ["no": "schema"]
        XCTAssertEqual(try read(object), whole)
        XCTAssertEqual(whole.artifactId, object["artifact_id"] as? String)
        var features = try XCTUnwrap(object["features"] as? [String: Any])
        features["step_ms"] = 21
        object["features"] = features
        XCTAssertNotEqual(try read(object), whole)
    }

    func testAnotherMajorVersionIsRefused() throws {
        var object = try raw()
        object["schema_version"] = "99.0"
        XCTAssertThrowsError(try read(object)) { error in
            XCTAssertEqual(
                error as? ASRError, .unsupportedSchema(found: "99.0", supported: "1.x and 2.x")
            )
        }
    }

    func testANewerMinorVersionMayHaveMoreKeys() throws {
        var object = try raw()
        let own = try XCTUnwrap(version(try read(object).schemaVersion))
        let supported = ASRManifest.supportedSchemaVersions.compactMap(version)
        let (major, minor) = try XCTUnwrap(supported.first { $0.0 == own.0 })
        object["weather"] = ["rain": true]
        var audio = try XCTUnwrap(object["audio"] as? [String: Any])
        audio["volume"] = 11
        object["audio"] = audio
        XCTAssertThrowsError(try read(object))
        object["schema_version"] = "\(major).\(minor + 1)"
        var expected = try read(try raw())
        expected.schemaVersion = "\(major).\(minor + 1)"
        XCTAssertEqual(try read(object), expected)
        var files = try XCTUnwrap(object["files"] as? [[String: Any]])
        files[0]["role"] = "thesaurus"
        object["files"] = files
        XCTAssertEqual(try read(object).files[0].role, "thesaurus")
        audio["channels"] = nil
        object["audio"] = audio
        XCTAssertThrowsError(try read(object))
    }

    func testAVersionIsTwoNumbers() throws {
        for version in ["1", "1.x", "1.0.0", "one", "1.", ""] {
            var object = try raw()
            object["schema_version"] = version
            XCTAssertThrowsError(try read(object), version)
        }
    }

    private func version(_ text: String) -> (Int, Int)? {
        let parts = text.split(separator: ".")
        guard parts.count == 2, let major = Int(parts[0]), let minor = Int(parts[1]) else {
            return nil
        }
        return (major, minor)
    }

    func testEveryKeyOfTheFirstVersionIsNeeded() throws {
        let keys = [
            "schema_version", "artifact_id", "name", "version", "description", "author", "license",
            "languages", "files", "audio", "features", "model", "state", "streaming", "decoder",
        ]
        for key in keys {
            var object = try raw()
            object[key] = nil
            XCTAssertThrowsError(try read(object), key)
        }
    }

    func testNullMustBeWrittenOut() throws {
        var object = try raw()
        var streaming = try XCTUnwrap(object["streaming"] as? [String: Any])
        streaming["chunk_ms"] = nil
        object["streaming"] = streaming
        XCTAssertThrowsError(try read(object))
    }

    func testAnUnknownKeyIsRefused() throws {
        var object = try raw()
        var audio = try XCTUnwrap(object["audio"] as? [String: Any])
        audio["volume"] = 11
        object["audio"] = audio
        XCTAssertThrowsError(try read(object)) { error in
            XCTAssertTrue("\(error)".contains("volume"))
        }
    }

    func testAnUnknownChoiceIsRefused() throws {
        var object = try raw()
        var audio = try XCTUnwrap(object["audio"] as? [String: Any])
        audio["sample_type"] = "float64"
        object["audio"] = audio
        XCTAssertThrowsError(try read(object))
    }

    func testAnotherFunctionIsChosenByItsName() throws {
        let manifest = try read(try raw())
        for function in manifest.model.functions {
            let chosen = try manifest.selecting(function: function.name)
            XCTAssertEqual(chosen.model.defaultFunction, function.name)
            XCTAssertEqual(chosen.model.inputs, function.inputs)
            XCTAssertEqual(chosen.streaming, function.streaming)
        }
        XCTAssertEqual(try manifest.selecting(function: manifest.model.defaultFunction), manifest)
        XCTAssertThrowsError(try manifest.selecting(function: "no such function"))
    }

    func testTheFirstVariantThatTheSystemLoadsIsChosen() throws {
        let variants = try [["iOS": "18"], ["iOS": "17.2", "macOS": "14"], ["macOS": "12.0.1"]].map {
            var manifest = try read(try raw())
            manifest.model.minimumOs = $0
            return manifest
        }
        let expected = [
            ("iOS", "26.1", 0), ("iOS", "18", 0), ("iOS", "17.10", 1), ("iOS", "17.2.0", 1),
            ("macOS", "15", 1), ("macOS", "13.7", 2), ("macOS", "12.0.1", 2),
        ]
        for (name, version, index) in expected {
            let system = ASRSystemVersion(name: name, version: version)
            XCTAssertEqual(variants.choose(for: system), variants[index], "\(name) \(version)")
        }
        for (name, version) in [("iOS", "17.1.9"), ("macOS", "12"), ("watchOS", "26"), ("", "9")] {
            XCTAssertNil(variants.choose(for: ASRSystemVersion(name: name, version: version)), version)
        }
    }
}
