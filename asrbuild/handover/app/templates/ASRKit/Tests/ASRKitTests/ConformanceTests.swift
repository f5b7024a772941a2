import Foundation
import XCTest

@testable import ASRConformance
@testable import ASRCore

/// The report of a device: right where the model is, and wrong at the first step that is not.
final class ConformanceTests: XCTestCase {
    func testTheVectorsOwnOutputsPassEveryStep() async throws {
        let artifact = try Artifact()
        for recording in artifact.vectors.recordings {
            let samples = try artifact.samples(recording)
            let pass = try await Pass(artifact.replay(recording), artifact.manifest, samples)
            let report = ASRConformanceReport(
                findings: try pass.findings(recording, artifact.vectors)
            )
            XCTAssertTrue(report.passed, "\(String(describing: report.firstOff))")
            XCTAssertEqual(Set(report.findings.map(\.step)), Set(artifact.vectors.steps.map(\.name)))
        }
    }

    func testAnotherModelIsFoundAtItsFirstStep() async throws {
        let artifact = try Artifact()
        let report = await ASRConformanceReport.run(
            Scripted(artifact.manifest), manifest: artifact.manifest, vectors: artifact.vectors
        )
        XCTAssertEqual(report.errors, [])
        XCTAssertFalse(report.passed)
        let explicit = artifact.manifest.state.first { $0.kind == .explicit }
        // The first call takes zeros, as it should: of an utterance in one call its outputs are off.
        let calls = try XCTUnwrap(artifact.vectors.recordings.first).calls.count
        let state = explicit.map { calls > 1 ? $0.input : $0.output }
        XCTAssertEqual(report.firstOff?.step, state ?? "probabilities")
        let data = try JSONEncoder().encode(report)
        XCTAssertEqual(try JSONDecoder().decode(ASRConformanceReport.self, from: data), report)
    }

    /// A model whose first row has the likeliest and the least likely class exchanged.
    private actor Altered: ASRAcousticModel {
        private let model: ASRReplayModel
        private let decoded: Laid
        private var made = 0

        init(_ model: ASRReplayModel, _ decoded: Laid) {
            self.model = model
            self.decoded = decoded
        }

        nonisolated func makeState() throws -> (any ASRModelState)? { try model.makeState() }

        func predict(
            _ inputs: [String: ASRTensor], state: (any ASRModelState)?
        ) async throws -> [String: ASRTensor] {
            let outputs = try await model.predict(inputs, state: state)
            made += 1
            guard made == 1, let found = outputs[decoded.name] else { return outputs }
            let count = found.values.count / decoded.width
            var values = decoded.stand(found.values, count)
            let classes = 0..<decoded.width
            let best = classes.max { values[$0] < values[$1] }!
            let least = classes.min { values[$0] < values[$1] }!
            // One number is a class against all else.
            if best == least { values[0] = 1 - values[0] } else { values.swapAt(best, least) }
            let changed = ASRTensor(shape: found.shape, values: decoded.lay(values, count))
            return outputs.merging([decoded.name: changed]) { $1 }
        }
    }

    func testARowOfAnotherClassIsMeasured() async throws {
        let artifact = try Artifact()
        let recording = try XCTUnwrap(artifact.vectors.recordings.first { !$0.calls.isEmpty })
        let expected = try artifact.rows(recording, "probabilities")
        let model = Altered(artifact.replay(recording), try Laid.decoded(artifact.manifest))
        let pass = try await Pass(model, artifact.manifest, try artifact.samples(recording))
        let findings = try pass.findings(recording, artifact.vectors)
        func value(_ measure: String) throws -> Double {
            try XCTUnwrap(
                findings.first { $0.step == "probabilities" && $0.measure == measure }
            ).value
        }
        let agreeing = Double(expected.count - 1) / Double(expected.count)
        XCTAssertEqual(try value("argmax_agreement"), agreeing, accuracy: 1e-9)
        let row = expected[0]
        XCTAssertEqual(
            try value("max_abs_error"), Double(row.max()! - row.min()!), accuracy: 1e-4
        )
        XCTAssertGreaterThan(try value("kl_divergence"), 0.1)
        XCTAssertFalse(ASRConformanceReport(findings: findings).passed)
    }

    func testAModelThatFailsIsAnErrorAndNoPass() async throws {
        let artifact = try Artifact()
        let model = Scripted(artifact.manifest) { _, _ in throw Interrupted() }
        let report = await ASRConformanceReport.run(
            model, manifest: artifact.manifest, vectors: artifact.vectors
        )
        XCTAssertFalse(report.passed)
        // A recording that is too short makes no call.
        XCTAssertEqual(
            report.errors.count, artifact.vectors.recordings.filter { !$0.calls.isEmpty }.count
        )
    }

    #if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
    /// Asks the program that answers for Core ML to sign, as a device does with CryptoKit.
    private struct Asked: ASRSigner {
        let keyID: String
        let pipes: String

        func signature(of bytes: Data) throws -> Data {
            guard let requests = FileHandle(forWritingAtPath: pipes + "/requests"),
                let answers = FileHandle(forReadingAtPath: pipes + "/answers")
            else { throw ASRError.unreadable(pipes) }
            let question = ["ask": "sign", "bytes": bytes.base64EncodedString()]
            try requests.write(contentsOf: JSONEncoder().encode(question) + Data([10]))
            var answer = Data()
            while answer.last != 10 { answer.append(answers.availableData) }
            let found = try JSONDecoder().decode([String: String].self, from: answer)
            return Data(base64Encoded: found["signature"] ?? "") ?? Data()
        }
    }

    /// Writes the signed evidence of this runtime to the folder `ASRKIT_RESULTS`, for asrbuild.
    func testEvidenceForTheReader() async throws {
        let environment = ProcessInfo.processInfo.environment
        guard let path = environment["ASRKIT_RESULTS"], let keyID = environment["ASRKIT_KEY_ID"],
            let pipes = environment["ASRKIT_EXECUTOR"]
        else { throw XCTSkip("ASRKIT_KEY_ID names no key") }
        var test = try ASRDeviceTest(try ASRArtifact(folder: try Artifact().folder))
        test.passes = 2
        test.device = ASRDevice(
            kind: "device", identifier: "iPhone16,2", os: "iOS", osVersion: "18.1.0",
            osBuild: "22B83", memoryBytes: 8 << 30
        )
        let folder = URL(fileURLWithPath: path)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let signed = try await test.run(signedBy: Asked(keyID: keyID, pipes: pipes))
        try signed.write(to: folder.appendingPathComponent("evidence.json"))
    }
    #endif
}
