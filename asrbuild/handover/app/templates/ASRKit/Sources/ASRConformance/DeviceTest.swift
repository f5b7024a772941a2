#if canImport(CoreML) && !os(tvOS) && !os(watchOS) && !os(visionOS)
import ASRCore
import ASRCoreML
import CoreML
import Foundation

/// Measures an artifact where it runs: the compute plan of each set of units, loads, the time of each
/// call, memory, and every step of the conformance vectors.
///
/// The result is a document for `asrbuild evidence add`, which computes again what it says.
public struct ASRDeviceTest: Sendable {
    /// The artifact under test.
    public let artifact: ASRArtifact
    /// Its conformance vectors.
    public let vectors: ASRVectors
    /// Passes of the longest recording with each set of units.
    public var passes = 20
    /// Whether Core ML's cache of compiled models was cleared before.
    public var cacheCleared = false
    /// The device, as the document names it.
    public var device = ASRDevice.current
    /// Names of the operations of the package, where they are known.
    package var operations: [String]?
    /// The name of this program in the document.
    package var runner = "ASRConformance"

    /// A test of an artifact, with the vectors beside it.
    ///
    /// - Throws: an error of the file system where there are none.
    public init(_ artifact: ASRArtifact) throws {
        self.artifact = artifact
        vectors = try ASRVectors(contentsOf: artifact.conformance)
    }

    /// Runs the test, and signs its document.
    ///
    /// - Returns: a signed evidence file.
    /// - Throws: `ASRError` or Core ML's error where no set of units can run the model.
    public func run(signedBy signer: any ASRSigner) async throws -> Data {
        try signer.seal(try await run())
    }

    /// Runs the test.
    ///
    /// - Returns: an evidence file without a signature.
    /// - Throws: `ASRError` or Core ML's error where no set of units can run the model.
    public func run() async throws -> Data {
        let manifest = artifact.manifest
        let measured = Self.date(Date())
        let package = try artifact.model()
        if package.pathExtension != "mlmodelc", try packageDigest(package) != manifest.packageDigest {
            throw ASRError.contradiction("the package is not the one of the manifest")
        }
        var device = self.device
        let before = ASRDevice.memory
        let compiled = try await ASRCoreMLModel.compiled(package)
        let longest = vectors.recordings.max { $0.samples < $1.samples }
        guard let longest = longest else { throw ASRError.unreadable("vectors without a recording") }
        var loaded = try await load(compiled)
        guard !loaded.models.isEmpty else {
            throw ASRError.unsupported(loaded.errors.joined(separator: "; "))
        }
        let afterLoad = ASRDevice.memory
        var plans: [Evidence.Plan] = []
        for (name, units, _) in loaded.models { plans.append(await plan(compiled, name, units)) }
        var outputs: [Evidence.Output] = []
        var steps: [Evidence.Conformance] = []
        for (name, _, model) in loaded.models {
            for recording in vectors.recordings {
                let pass = try await Pass(model, manifest, try vectors.samples(recording))
                outputs.append(output(name, recording, pass))
                steps += try pass.findings(recording, vectors).map {
                    Evidence.Conformance(
                        units: name, recording: $0.recording, step: $0.step, measure: $0.measure,
                        value: $0.value, limit: $0.limit, passed: $0.passed
                    )
                }
            }
        }
        let timed = try await time(loaded.models, try vectors.samples(longest))
        device.thermal = [device.thermal.first ?? "unknown", ASRDevice.thermalState]
        let audio = Double(longest.samples) / Double(manifest.audio.sampleRate)
        let system = ProcessInfo.processInfo.operatingSystemVersionString
        loaded.errors += steps.filter { !$0.passed }.prefix(20).map {
            "\($0.units): \($0.recording), \($0.step): \($0.measure) \($0.value), limit \($0.limit)"
        }
        return try Evidence(
            measured: measured,
            artifact: Evidence.Artifact(
                name: manifest.name, version: manifest.version, packageSha256: manifest.packageDigest,
                function: manifest.model.defaultFunction
            ),
            runner: Evidence.Runner(
                name: runner, version: ASRKitVersion.current, coreMl: "Core ML of \(system)",
                clock: "uptime around prediction with ASRKit's own conversions of arrays"
            ),
            device: device, timedRecording: longest.name, plans: plans, loads: loaded.loads,
            passes: timed,
            statistics: loaded.models.map { Evidence.Statistics($0.name, timed, audio: audio) },
            memory: Evidence.Memory(
                counts: before.counts, countsNeuralEngine: Null(Self.countsNeuralEngine),
                beforeBytes: before.now, afterLoadBytes: afterLoad.now,
                peakBytes: ASRDevice.memory.peak
            ),
            outputs: outputs, conformance: steps, errors: loaded.errors
        ).json()
    }

    private typealias Loaded = (name: String, units: MLComputeUnits, model: ASRCoreMLModel)

    private func load(
        _ compiled: URL
    ) async throws -> (models: [Loaded], loads: [Evidence.Load], errors: [String]) {
        var found: (models: [Loaded], loads: [Evidence.Load], errors: [String]) = ([], [], [])
        var sets: [(String, MLComputeUnits)] = [("CPU_ONLY", .cpuOnly)]
        if #available(iOS 16, macOS 13, *) { sets.append(("CPU_AND_NE", .cpuAndNeuralEngine)) }
        sets += [("CPU_AND_GPU", .cpuAndGPU), ("ALL", .all)]
        for (name, units) in sets {
            do {
                var models: [ASRCoreMLModel] = []
                var times: [Double] = []
                for _ in 0..<4 {
                    let start = DispatchTime.now().uptimeNanoseconds
                    models.append(
                        try await ASRCoreMLModel(
                            contentsOf: compiled, manifest: artifact.manifest, computeUnits: units
                        )
                    )
                    times.append(max(1e-6, Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6))
                }
                found.models.append((name, units, models[0]))
                found.loads.append(
                    Evidence.Load(
                        units: name, firstMs: times[0], cache: cacheCleared ? "cleared" : "unknown",
                        againMs: Array(times.dropFirst())
                    )
                )
            } catch {
                found.errors.append("loading with \(name) failed: \(error)")
            }
        }
        return found
    }

    /// Rounds of one pass with each set of units: heat and clocks drift.
    private func time(_ models: [Loaded], _ samples: [Int16]) async throws -> [Evidence.Timed] {
        var timed: [Evidence.Timed] = []
        let start = DispatchTime.now().uptimeNanoseconds
        for round in 0..<max(1, passes) {
            for offset in 0..<models.count {
                try Task.checkCancellation()
                let (name, _, model) = models[(round + offset) % models.count]
                let at = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
                let pass = try await Pass(model, artifact.manifest, samples)
                timed.append(Evidence.Timed(units: name, atS: at, callsMs: pass.times))
            }
        }
        return timed
    }

    private func output(
        _ units: String, _ recording: ASRVectors.Recording, _ pass: Pass
    ) -> Evidence.Output {
        var data = Data(capacity: 4 * pass.rows.values.count)
        for value in pass.rows.values {
            for byte in 0..<4 { data.append(UInt8(truncatingIfNeeded: value.bitPattern >> (8 * byte))) }
        }
        return Evidence.Output(
            units: units, recording: recording.name, samples: recording.samples,
            samplesSha256: recording.samplesSHA256, steps: pass.rows.count,
            classes: pass.rows.width, probabilities: data.base64EncodedString()
        )
    }

    /// UTC, ISO 8601.
    static func date(_ date: Date) -> String {
        let formatter = ISO8601DateFormatter()
        return String(formatter.string(from: date).prefix(19)) + "+00:00"
    }

    /// From iOS 27 on, an app's footprint has the Neural Engine's memory (one report); on a Mac that is
    /// not known.
    private static var countsNeuralEngine: Bool? {
        #if os(iOS)
        return ProcessInfo.processInfo.operatingSystemVersion.majorVersion >= 27
        #else
        return nil
        #endif
    }
}

/// SHA-256 of the lines `<sha256>  <path>` of the package's files, in order.
func packageDigest(_ package: URL) throws -> String {
    let files = FileManager.default
    // Of a file, which a neural network is, some systems list nothing where others throw.
    let folder = (try? files.contentsOfDirectory(atPath: package.path)) != nil
    let inside = folder ? try files.subpathsOfDirectory(atPath: package.path) : nil
    var lines: [(String, String)] = []
    for name in inside ?? ["."] {
        let file = inside == nil ? package : package.appendingPathComponent(name)
        if inside != nil, (try? files.contentsOfDirectory(atPath: file.path)) != nil { continue }
        lines.append((name, SHA256.hex(try Data(contentsOf: file, options: .mappedIfSafe))))
    }
    return ASRManifest.digest(lines)
}

// MARK: - The compute plan

extension ASRDeviceTest {
    /// The compute plan: no answer of Core ML is null, and not the CPU.
    private func plan(
        _ compiled: URL, _ name: String, _ units: MLComputeUnits
    ) async -> Evidence.Plan {
        var found: [Evidence.Operation] = []
        var failure: String?
        if #available(iOS 17.4, macOS 14.4, *) {
            do {
                let configuration = MLModelConfiguration()
                configuration.computeUnits = units
                let plan = try await MLComputePlan.load(
                    contentsOf: compiled, configuration: configuration
                )
                found = Self.operations(plan, artifact.manifest.model.defaultFunction)
            } catch {
                failure = "no plan: \(error)"
            }
        } else {
            failure = "the system has no compute plans: they came with iOS 17.4 and macOS 14.4"
        }
        let listed = Set(found.map(\.output))
        let own = operations.map(Set.init)
        return Evidence.Plan(
            units: name, answered: found.contains { $0.preferred.value != nil }, ops: found,
            absent: Null(own.map { failure == nil ? $0.subtracting(listed).sorted() : [] }),
            added: Null(own.map { listed.subtracting($0).sorted() }), error: Null(failure)
        )
    }

    @available(iOS 17.4, macOS 14.4, *)
    private static func operations(_ plan: MLComputePlan, _ function: String) -> [Evidence.Operation] {
        var rows: [Evidence.Operation] = []
        func add(
            _ kind: String, _ output: String, _ usage: MLComputePlan.DeviceUsage?, _ weight: Double?
        ) {
            rows.append(
                Evidence.Operation(
                    operator: kind.split(separator: ".").last.map(String.init) ?? kind, output: output,
                    preferred: Null(usage.flatMap { processor($0.preferred) }),
                    supported: Set(usage?.supported.compactMap { processor($0) } ?? []).sorted(),
                    weight: Null(weight)
                )
            )
        }
        func walk(_ block: MLModelStructure.Program.Block) {
            for one in block.operations {
                if let output = one.outputs.first, !one.operatorName.hasSuffix("const") {
                    let weight = plan.estimatedCost(of: one)?.weight
                    add(one.operatorName, output.name, plan.deviceUsage(for: one), weight)
                }
                one.blocks.forEach(walk)
            }
        }
        switch plan.modelStructure {
        case .program(let program):
            if let chosen = program.functions[function] ?? program.functions.values.first {
                walk(chosen.block)
            }
        case .neuralNetwork(let network):
            for layer in network.layers {
                add(layer.type, layer.name, plan.deviceUsage(for: layer), nil)
            }
        default:
            break
        }
        return rows
    }

    @available(iOS 17.4, macOS 14.4, *)
    private static func processor(_ device: MLComputeDevice) -> String? {
        switch device {
        case .cpu: return "CPU"
        case .gpu: return "GPU"
        case .neuralEngine: return "NE"
        // A processor of a later system is none of these.
        @unknown default: return nil
        }
    }
}
#endif
