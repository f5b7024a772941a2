import Foundation

/// A system and its version, as manifests name them: `iOS` 17.4.
public struct ASRSystemVersion: Sendable {
    public let name: String
    public let numbers: [Int]

    public init(name: String, version: String) {
        self.name = name
        numbers = version.split(separator: ".").map { Int($0) ?? 0 }
    }

    /// The system of this device; the name is empty on systems without Core ML.
    public static var current: ASRSystemVersion {
        #if os(iOS)
        let name = "iOS"
        #elseif os(macOS)
        let name = "macOS"
        #else
        let name = ""
        #endif
        let version = ProcessInfo.processInfo.operatingSystemVersion
        let numbers = [version.majorVersion, version.minorVersion, version.patchVersion]
        return ASRSystemVersion(name: name, version: numbers.map(String.init).joined(separator: "."))
    }

    /// Whether this version is the other one or newer; `17` is `17.0`.
    func isAtLeast(_ other: ASRSystemVersion) -> Bool {
        let length = max(numbers.count, other.numbers.count)
        func padded(_ numbers: [Int]) -> [Int] {
            numbers + [Int](repeating: 0, count: length - numbers.count)
        }
        return !padded(numbers).lexicographicallyPrecedes(padded(other.numbers))
    }
}

extension ASRManifest {
    /// The compute units that give the numbers of the proof.
    ///
    /// Only the CPU runs a neural network in single precision: the GPU and the Neural Engine run it
    /// in half precision, outside of the proof's limits (Apple, "Typed Execution").
    public var computeUnits: Model.RecommendedComputeUnits {
        model.format == .neuralnetwork && model.computePrecision == .fp32
            ? .cpuOnly : model.recommendedComputeUnits
    }

    /// Refuses a system that is older than the package requires; one without Core ML is not asked.
    ///
    /// - Throws: `ASRError.unsupported`.
    package func requireSystem(_ system: ASRSystemVersion) throws {
        guard let oldest = model.minimumOs[system.name], !loads(on: system) else { return }
        let found = system.numbers.map(String.init).joined(separator: ".")
        throw ASRError.unsupported("\(system.name) \(found): the package requires \(oldest)")
    }

    /// Whether a system is new enough to load the package.
    public func loads(on system: ASRSystemVersion) -> Bool {
        guard let oldest = model.minimumOs[system.name] else { return false }
        return system.isAtLeast(ASRSystemVersion(name: system.name, version: oldest))
    }
}

extension Sequence where Element == ASRManifest {
    /// Of several variants, in the publisher's order, the first that a system loads.
    public func choose(for system: ASRSystemVersion = .current) -> ASRManifest? {
        first { $0.loads(on: system) }
    }
}
