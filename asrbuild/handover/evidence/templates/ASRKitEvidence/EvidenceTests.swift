#if canImport(CoreML) && (os(iOS) || os(macOS))
import CoreML
import CryptoKit
import Foundation
import XCTest
#if os(iOS)
import UIKit
#endif

@testable import ASRConformance
@testable import ASRCore
@testable import ASRCoreML

/// Measures the package in `measured` on this device and attaches `evidence.json`: what
/// `measure.py` does on a Mac, in the same format.
final class EvidenceTests: XCTestCase {
    private static let version = "1"
    private static let units: [(String, MLComputeUnits)] = {
        var found: [(String, MLComputeUnits)] = [("CPU_ONLY", .cpuOnly)]
        if #available(iOS 16, macOS 13, *) { found.append(("CPU_AND_NE", .cpuAndNeuralEngine)) }
        return found + [("CPU_AND_GPU", .cpuAndGPU), ("ALL", .all)]
    }()

    func testMeasure() async throws {
        let environment = ProcessInfo.processInfo.environment
        let rounds = Int(environment["ASRKIT_PASSES"] ?? "") ?? 100
        let cache = environment["ASRKIT_CACHE_CLEARED"] == "1" ? "cleared" : "unknown"
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "measured", withExtension: nil))
        let kit = try Kit(folder)
        let vectors = try ASRVectors(contentsOf: folder.appendingPathComponent("conformance"))
        let manifest = try ASRManifest.read(
            contentsOf: folder.appendingPathComponent("manifest.json")
        ).selecting(function: kit.function)
        let package = folder.appendingPathComponent(manifest.model.package)
        let digest = try packageDigest(package)
        XCTAssertEqual(digest, kit.packageSHA256, "the package is not the one of the kit")
        let measured = ISO8601DateFormatter.string(
            from: Date(), timeZone: TimeZone(identifier: "UTC")!,
            formatOptions: [.withFullDate, .withTime, .withColonSeparatorInTime]
        ) + "+00:00"
        let thermal = thermalState()
        let before = footprint()
        let compiled = try compile(package)

        var errors: [String] = []
        var runners: [(units: String, model: TimedModel)] = []
        var loads: [[String: Any]] = []
        for (name, units) in Self.units {
            do {
                func load() async throws -> (ASRCoreMLModel, Double) {
                    let start = DispatchTime.now().uptimeNanoseconds
                    let model = try await ASRCoreMLModel(
                        contentsOf: compiled, manifest: manifest, computeUnits: units
                    )
                    return (model, milliseconds(since: start))
                }
                let (model, first) = try await load()
                var again: [Double] = []
                for _ in 0..<3 { again.append(try await load().1) }
                runners.append((name, TimedModel(model)))
                loads.append(["units": name, "first_ms": first, "cache": cache, "again_ms": again])
            } catch {
                errors.append("loading with \(name) failed: \(error)")
            }
        }
        XCTAssertFalse(runners.isEmpty, errors.joined(separator: "; "))
        let afterLoad = footprint()

        var plans: [[String: Any]] = []
        for (name, units) in Self.units where runners.contains(where: { $0.units == name }) {
            plans.append(await plan(compiled, name, units, manifest, kit))
        }

        var outputs: [[String: Any]] = []
        for (name, model) in runners {
            for recording in vectors.recordings {
                let rows = try await model.run(recording, vectors, manifest).rows
                outputs.append([
                    "units": name, "recording": recording.name, "samples": recording.samples,
                    "samples_sha256": recording.samplesSHA256, "steps": rows.count,
                    "classes": kit.classes, "probabilities": littleEndian(rows.values),
                ])
            }
        }

        let longest = try XCTUnwrap(vectors.recordings.max { $0.samples < $1.samples })
        var passes: [[String: Any]] = []
        let start = DispatchTime.now().uptimeNanoseconds
        for round in 0..<rounds {
            for offset in 0..<runners.count {
                // In turn, and not always one after the same other: heat and clocks drift.
                let (name, model) = runners[(round + offset) % runners.count]
                let at = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
                let times = try await model.run(longest, vectors, manifest).times
                passes.append(["units": name, "at_s": at, "calls_ms": times])
            }
        }
        let rate = Double(manifest.audio.sampleRate)
        let audio = Double(longest.samples) / rate
        let document: [String: Any] = [
            "format": "asrbuild-evidence/1",
            "measured": measured,
            "artifact": [
                "name": manifest.name, "version": manifest.version, "package_sha256": digest,
                "function": kit.function,
            ],
            "runner": [
                "name": "ASRKitEvidence", "version": Self.version,
                "core_ml": "Core ML of \(ProcessInfo.processInfo.operatingSystemVersionString)",
                "clock": "uptime around prediction, without ASRKit's own conversions of arrays before",
            ],
            "device": await device(thermal),
            "hints": ["reshape_frequency": NSNull(), "specialization_strategy": NSNull()],
            "timed_recording": longest.name,
            "plans": plans,
            "loads": loads,
            "passes": passes,
            "statistics": runners.map { statistics($0.units, passes, audio) },
            "memory": [
                "counts": "phys_footprint", "counts_neural_engine": countsNeuralEngine(),
                "before_bytes": before.now, "after_load_bytes": afterLoad.now,
                "peak_bytes": footprint().peak,
            ],
            "outputs": outputs,
            "errors": errors,
        ]
        let data = try JSONSerialization.data(withJSONObject: document, options: [.sortedKeys])
        let attachment = XCTAttachment(data: data, uniformTypeIdentifier: "public.json")
        attachment.name = "evidence.json"
        attachment.lifetime = .keepAlways
        add(attachment)
        print("ASRKIT_EVIDENCE BEGIN\n\(String(decoding: data, as: UTF8.self))\nASRKIT_EVIDENCE END")
    }
}

/// `kit.json`: what the kit was made for.
private struct Kit {
    let function: String
    let packageSHA256: String
    let outputs: Set<String>
    let classes: Int

    init(_ folder: URL) throws {
        let data = try Data(contentsOf: folder.appendingPathComponent("kit.json"))
        let read = try JSONSerialization.jsonObject(with: data) as? [String: Any]
        guard let fields = read, let function = fields["function"] as? String,
            let digest = fields["package_sha256"] as? String,
            let ops = fields["ops"] as? [[String]], let classes = fields["classes"] as? Int
        else { throw ASRError.unreadable("kit.json") }
        self.function = function
        self.classes = classes
        packageSHA256 = digest
        outputs = Set(ops.map { $0[1] })
    }
}

/// A model that notes how long each call takes. Unchecked: one pass runs at a time.
private final class TimedModel: ASRAcousticModel, @unchecked Sendable {
    private let model: ASRCoreMLModel
    private var times: [Double] = []

    init(_ model: ASRCoreMLModel) {
        self.model = model
    }

    func makeState() throws -> (any ASRModelState)? { try model.makeState() }

    func predict(
        _ inputs: [String: ASRTensor], state: (any ASRModelState)?
    ) async throws -> [String: ASRTensor] {
        let start = DispatchTime.now().uptimeNanoseconds
        let answer = try await model.predict(inputs, state: state)
        times.append(milliseconds(since: start))
        return answer
    }

    /// One pass of a recording: milliseconds of each call, and the probabilities.
    func run(
        _ recording: ASRVectors.Recording, _ vectors: ASRVectors, _ manifest: ASRManifest
    ) async throws -> (times: [Double], rows: ASRRows) {
        times = []
        var stream = try ASRAcousticStream(model: self, manifest: manifest)
        var rows = try await stream.feed(try vectors.rows(recording, "windows"))
        rows.append(try await stream.finish())
        return (times, rows)
    }
}

private func milliseconds(since start: UInt64) -> Double {
    max(1e-6, Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6)
}

/// The compute plan: no answer of Core ML is null, and not the CPU.
private func plan(
    _ compiled: URL, _ name: String, _ units: MLComputeUnits, _ manifest: ASRManifest, _ kit: Kit
) async -> [String: Any] {
    var ops: [[String: Any]] = []
    var failure: Any = NSNull()
    if #available(iOS 17.4, macOS 14.4, *) {
        do {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = units
            let plan = try await MLComputePlan.load(contentsOf: compiled, configuration: configuration)
            ops = operations(plan, kit.function)
        } catch {
            failure = "no plan: \(error)"
        }
    } else {
        failure = "the system has no compute plans: they came with iOS 17.4 and macOS 14.4"
    }
    let listed = Set(ops.compactMap { $0["output"] as? String })
    return [
        "units": name,
        "answered": ops.contains { $0["preferred"] is String },
        "ops": ops,
        "absent": failure is NSNull ? kit.outputs.subtracting(listed).sorted() : [],
        "added": listed.subtracting(kit.outputs).sorted(),
        "error": failure,
    ]
}

@available(iOS 17.4, macOS 14.4, *)
private func operations(_ plan: MLComputePlan, _ function: String) -> [[String: Any]] {
    var rows: [[String: Any]] = []
    func add(_ kind: String, _ output: String, _ usage: MLComputePlan.DeviceUsage?, _ weight: Double?) {
        rows.append([
            "operator": kind.split(separator: ".").last.map(String.init) ?? kind,
            "output": output,
            "preferred": json(usage.flatMap { processor($0.preferred) }),
            "supported": Set(usage?.supported.compactMap { processor($0) } ?? []).sorted(),
            "weight": json(weight),
        ])
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
        for layer in network.layers { add(layer.type, layer.name, plan.deviceUsage(for: layer), nil) }
    default:
        break
    }
    return rows
}

@available(iOS 17.4, macOS 14.4, *)
private func processor(_ device: MLComputeDevice) -> String? {
    switch device {
    case .cpu: return "CPU"
    case .gpu: return "GPU"
    case .neuralEngine: return "NE"
    // A processor of a later system is none of these.
    @unknown default: return nil
    }
}

/// JSON of an optional: null, where `JSONSerialization` would take none.
private func json<T>(_ value: T?) -> Any {
    value.map { $0 as Any } ?? NSNull()
}

/// The compiled package. In asynchronous code the name would mean a function of iOS 16.
private func compile(_ package: URL) throws -> URL {
    try MLModel.compileModel(at: package)
}

private func statistics(_ units: String, _ passes: [[String: Any]], _ audio: Double) -> [String: Any] {
    let values = passes.filter { $0["units"] as? String == units }
        .compactMap { ($0["calls_ms"] as? [Double])?.reduce(0, +) }
        .map { $0 / audio }.sorted()
    func quantile(_ share: Double) -> Double {
        values[max(1, Int((share * Double(values.count)).rounded(.up))) - 1]
    }
    return [
        "units": units, "passes": values.count,
        "mean_ms": values.reduce(0, +) / Double(values.count), "p50_ms": quantile(0.5), "p95_ms": quantile(0.95),
        "max_ms": values.last ?? 0,
    ]
}

/// SHA-256 of the lines `<sha256>  <path>` of the package's files, in order.
private func packageDigest(_ package: URL) throws -> String {
    var folder: ObjCBool = false
    FileManager.default.fileExists(atPath: package.path, isDirectory: &folder)
    let names = folder.boolValue
        ? try FileManager.default.subpathsOfDirectory(atPath: package.path) : ["."]
    var lines: [(String, String)] = []
    for name in names {
        let file = name == "." ? package : package.appendingPathComponent(name)
        var inner: ObjCBool = false
        FileManager.default.fileExists(atPath: file.path, isDirectory: &inner)
        if !inner.boolValue { lines.append((name, hex(SHA256.hash(data: try Data(contentsOf: file))))) }
    }
    // By Unicode scalars, as Python sorts; String's order is another.
    lines.sort { $0.0.unicodeScalars.lexicographicallyPrecedes($1.0.unicodeScalars) }
    let text = lines.map { "\($0.1)  \($0.0)\n" }.joined()
    return hex(SHA256.hash(data: Data(text.utf8)))
}

private func hex(_ digest: SHA256.Digest) -> String {
    digest.map { String(format: "%02x", $0) }.joined()
}

private func littleEndian(_ values: [Float]) -> String {
    var data = Data(capacity: 4 * values.count)
    for value in values { withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) } }
    return data.base64EncodedString()
}

private func thermalState() -> String {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return "nominal"
    case .fair: return "fair"
    case .serious: return "serious"
    case .critical: return "critical"
    @unknown default: return "unknown"
    }
}

/// Physical footprint of this process in bytes, now and at its largest.
private func footprint() -> (now: Int, peak: Int) {
    var info = task_vm_info_data_t()
    var count = mach_msg_type_number_t(
        MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size
    )
    let status = withUnsafeMutablePointer(to: &info) { pointer in
        pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
            task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
        }
    }
    guard status == KERN_SUCCESS else { return (0, 0) }
    return (Int(info.phys_footprint), Int(info.ledger_phys_footprint_peak))
}

/// From iOS 27 on, an app's footprint has the Neural Engine's memory (one report); on a Mac that is
/// not known.
private func countsNeuralEngine() -> Any {
    #if os(iOS)
    return ProcessInfo.processInfo.operatingSystemVersion.majorVersion >= 27
    #else
    return NSNull()
    #endif
}

private func control(_ name: String) -> String {
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return "" }
    var bytes = [CChar](repeating: 0, count: size)
    guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return "" }
    return String(cString: bytes)
}

private func device(_ thermal: String) async -> [String: Any] {
    let process = ProcessInfo.processInfo
    let version = process.operatingSystemVersion
    var kind = "device"
    #if targetEnvironment(simulator)
    kind = "simulator"
    #endif
    #if os(macOS)
    let (system, identifier) = ("macOS", control("hw.model"))
    var virtual: Int32 = 0
    var size = MemoryLayout<Int32>.size
    if sysctlbyname("kern.hv_vmm_present", &virtual, &size, nil, 0) == 0, virtual == 1 {
        kind = "virtual machine"
    }
    let power: String? = nil
    #else
    let (system, identifier) = ("iOS", control("hw.machine"))
    let power: String? = await MainActor.run { () -> String? in
        UIDevice.current.isBatteryMonitoringEnabled = true
        switch UIDevice.current.batteryState {
        case .unplugged: return "battery"
        case .charging, .full: return "mains"
        default: return nil
        }
    }
    #endif
    return [
        "kind": kind, "identifier": identifier, "chip": NSNull(), "os": system,
        "os_version": "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)",
        "os_build": control("kern.osversion"),
        "memory_bytes": Int(clamping: process.physicalMemory),
        "low_power": process.isLowPowerModeEnabled, "power": json(power),
        "thermal": [thermal, thermalState()],
    ]
}
#endif
