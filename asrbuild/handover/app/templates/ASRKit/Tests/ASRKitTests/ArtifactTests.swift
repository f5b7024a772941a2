import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML

/// The files of artifacts: in a folder of their own, and several in one app.
final class ArtifactTests: XCTestCase {
    private var folder = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("asrkit-\(UUID().uuidString)", isDirectory: true)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: folder)
    }

    private func write(_ name: String, _ text: String = "") throws {
        try Data(text.utf8).write(to: folder.appendingPathComponent(name))
    }

    func testTwoArtifactsLieInOneFolder() throws {
        let source = try Artifact().folder.appendingPathComponent("manifest.json")
        let suffix = try Artifact().manifest.model.package.split(separator: ".").last!
        for (name, license) in [("prompts", "one"), ("dictation", "two")] {
            let text = try String(contentsOf: source, encoding: .utf8)
            var object = try XCTUnwrap(
                try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
            )
            object["license"] = license
            try JSONSerialization.data(withJSONObject: object)
                .write(to: folder.appendingPathComponent("\(name).manifest.json"))
            try write("\(name).\(suffix)")
            try write("\(name).kenlm.scorer")
        }
        for (name, license) in [("prompts", "one"), ("dictation", "two")] {
            let artifact = try ASRArtifact(named: name, in: folder)
            XCTAssertEqual(artifact.manifest.license, license)
            XCTAssertEqual(try artifact.model().lastPathComponent, "\(name).\(suffix)")
            XCTAssertEqual(
                try artifact.file("lm/kenlm.scorer").lastPathComponent, "\(name).kenlm.scorer"
            )
            XCTAssertEqual(artifact.conformance.lastPathComponent, "\(name).conformance")
            // What Xcode compiled comes first.
            try write("\(name).mlmodelc")
            XCTAssertEqual(try artifact.model().lastPathComponent, "\(name).mlmodelc")
            try expectRefused(["../secret", "/etc/passwd", "a//b", "", "."], artifact)
        }
        XCTAssertThrowsError(try ASRArtifact(named: "other", in: folder))
    }

    private func expectRefused(_ paths: [String], _ artifact: ASRArtifact) throws {
        for path in paths {
            XCTAssertThrowsError(try artifact.file(path), path) { error in
                let expected = ASRError.contradiction("\(path) is not a file of the artifact")
                XCTAssertEqual(error as? ASRError, expected)
            }
        }
    }

    func testAnArtifactsOwnFolderHasItsOwnNames() throws {
        let given = try Artifact()
        let artifact = try ASRArtifact(folder: given.folder)
        XCTAssertEqual(artifact.manifest, given.manifest)
        XCTAssertEqual(artifact.conformance, given.folder.appendingPathComponent("conformance"))
        XCTAssertEqual(try artifact.model().lastPathComponent, given.manifest.model.package)
        XCTAssertThrowsError(try artifact.file("no such file"))
        // The last two are there.
        try expectRefused(["../secret", "", "./manifest.json", "conformance/../manifest.json"], artifact)
    }

    func testCompiledModelsAreKeptByPackageAndSystem() async throws {
        var manifest = try Artifact().manifest
        let compiles = Counter()
        func load(_ build: String, _ manifest: ASRManifest) async throws -> URL {
            let models = try CompiledModels(folder: folder.appendingPathComponent("kept"), build: build)
            return try await models.url(for: folder.appendingPathComponent("p.mlpackage"), of: manifest) {
                XCTAssertEqual($0.lastPathComponent, "p.mlpackage")
                let made = folder.appendingPathComponent("made-\(compiles.next()).mlmodelc")
                try Data("compiled".utf8).write(to: made)
                return made
            }
        }
        let first = try await load("iOS 26.1 (23B85)", manifest)
        let again = try await load("iOS 26.1 (23B85)", manifest)
        XCTAssertEqual(first, again)
        XCTAssertEqual(compiles.next(), 1)
        // Another package of the artifact stays beside it, until it was not used for 30 days.
        manifest.files = manifest.files.map { entry in
            var changed = entry
            if entry.role == "package" { changed.sha256 = String(entry.sha256.reversed()) }
            return changed
        }
        let other = try await load("iOS 26.1 (23B85)", manifest)
        XCTAssertNotEqual(other, first)
        XCTAssertTrue(FileManager.default.fileExists(atPath: first.path))
        let old = Date(timeIntervalSinceNow: -31 * 24 * 3600)
        try FileManager.default.setAttributes([.modificationDate: old], ofItemAtPath: first.path)
        _ = try await load("iOS 26.1 (23B85)", manifest)
        XCTAssertFalse(FileManager.default.fileExists(atPath: first.path))
        // An update of the system removes what the older one compiled.
        let updated = try await load("iOS 26.2 (23C55)", manifest)
        XCTAssertFalse(FileManager.default.fileExists(atPath: other.path))
        XCTAssertTrue(FileManager.default.fileExists(atPath: updated.path))
    }

    func testAKeptModelThatDoesNotLoadIsCompiledOnceMore() async throws {
        let manifest = try Artifact().manifest
        let kept = folder.appendingPathComponent("kept")
        let compiles = Counter(), loads = Counter()
        func load(from content: String) async throws -> String {
            let models = try CompiledModels(folder: kept, build: "iOS 26.1 (23B85)")
            let package = folder.appendingPathComponent("p.mlpackage")
            return try await models.loaded(package, of: manifest) { _ in
                let made = folder.appendingPathComponent("made-\(compiles.next()).mlmodelc")
                try Data(content.utf8).write(to: made)
                return made
            } load: {
                _ = loads.next()
                let content = try String(contentsOf: $0, encoding: .utf8)
                guard content != "damaged" else { throw ASRError.unsupported(content) }
                return content
            }.model
        }
        // A new one that does not load is an error at once, and stays what it is.
        do {
            _ = try await load(from: "damaged")
            XCTFail("it loads")
        } catch ASRError.unsupported { XCTAssertEqual(loads.next(), 1) }
        let found = try await load(from: "right")
        XCTAssertEqual(found, "right")
        XCTAssertEqual(loads.next(), 4)
        let again = try await load(from: "never compiled")
        XCTAssertEqual(again, "right")
        XCTAssertEqual(compiles.next(), 2)
    }

    func testTheDigestOfAPackageIsThatOfItsManifest() throws {
        // FIPS 180-4 and NIST's vectors; both sides of a block's end.
        XCTAssertEqual(
            SHA256.hex("".utf8), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        XCTAssertEqual(
            SHA256.hex("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        XCTAssertEqual(
            SHA256.hex(long.utf8), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        )
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            let bytes = try artifact.samples(recording).flatMap { sample -> [UInt8] in
                let bits = UInt16(bitPattern: sample)
                return [UInt8(bits & 255), UInt8(bits >> 8)]
            }
            XCTAssertEqual(SHA256.hex(bytes), recording.samplesSHA256, recording.name)
        }
        for entry in artifact.manifest.files where entry.role == "package" {
            let data = try Data(contentsOf: artifact.folder.appendingPathComponent(entry.path))
            if data.count < 100_000 { XCTAssertEqual(SHA256.hex(data), entry.sha256, entry.path) }
        }
    }

    private final class Counter: @unchecked Sendable {
        private var count = 0

        func next() -> Int {
            defer { count += 1 }
            return count
        }
    }
}
