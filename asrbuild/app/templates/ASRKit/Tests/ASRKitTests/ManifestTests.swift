import Foundation
import XCTest

@testable import ASRKit

final class ManifestTests: XCTestCase {
    private func raw() throws -> [String: Any] {
        let url = try Artifact().folder.appendingPathComponent("manifest.json")
        let object = try JSONSerialization.jsonObject(with: try Data(contentsOf: url))
        return try XCTUnwrap(object as? [String: Any])
    }

    private func read(_ object: [String: Any]) throws -> ASRManifest {
        try ASRManifest.read(try JSONSerialization.data(withJSONObject: object))
    }

    func testNothingIsLostOrAdded() throws {
        let again = try JSONEncoder().encode(try read(try raw()))
        let object = try XCTUnwrap(try JSONSerialization.jsonObject(with: again) as? [String: Any])
        XCTAssertEqual(object as NSDictionary, try raw() as NSDictionary)
    }

    func testAnotherMajorVersionIsRefused() throws {
        var object = try raw()
        object["schema_version"] = "99.0"
        XCTAssertThrowsError(try read(object)) { error in
            XCTAssertEqual(
                error as? ASRError, .unsupportedSchema(found: "99.0", supported: "1")
            )
        }
    }

    func testEveryKeyIsNeeded() throws {
        for key in try raw().keys {
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
}
