import Foundation

/// A system and its version, as manifests name them: `iOS` 17.4.
public struct ASRSystemVersion: Sendable {
    /// `iOS` or `macOS`; empty on systems without Core ML.
    public let name: String
    /// The version's numbers.
    public let numbers: [Int]

    /// A system and its version, such as `17.4`.
    public init(name: String, version: String) {
        self.name = name
        numbers = version.split(separator: ".").map { Int($0) ?? 0 }
    }

    /// The system of this device; the name is empty on systems without Core ML.
    public static var current: ASRSystemVersion {
        #if os(iOS)
        let name = "iOS"
        let process = ProcessInfo.processInfo
        // There the version may be that of macOS.
        if process.isiOSAppOnMac || process.isMacCatalystApp {
            return ASRSystemVersion(name: name, version: guaranteed)
        }
        #elseif os(macOS)
        let name = "macOS"
        #else
        let name = ""
        #endif
        let version = ProcessInfo.processInfo.operatingSystemVersion
        let numbers = [version.majorVersion, version.minorVersion, version.patchVersion]
        return ASRSystemVersion(name: name, version: numbers.map(String.init).joined(separator: "."))
    }

    /// The major version of iOS that the availability checks of this process promise.
    private static var guaranteed: String {
        if #available(iOS 27, macOS 27, *) { return "27" }
        if #available(iOS 26, macOS 26, *) { return "26" }
        if #available(iOS 18, macOS 15, *) { return "18" }
        if #available(iOS 17, macOS 14, *) { return "17" }
        if #available(iOS 16, macOS 13, *) { return "16" }
        return "15"
    }

    /// Whether this version is the other one or newer; `17` is `17.0`.
    package func isAtLeast(_ other: ASRSystemVersion) -> Bool {
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

    /// SHA-256 of the package's bytes: of the lines `<sha256>  <path>` of its files, in order, as the
    /// manifest lists them.
    package var packageDigest: String {
        let lines = files.filter { $0.role == "package" }.map { entry -> (String, String) in
            let inside = entry.path.hasPrefix(model.package + "/")
            return (inside ? String(entry.path.dropFirst(model.package.count + 1)) : ".", entry.sha256)
        }
        return Self.digest(lines)
    }

    /// The digest of a package's files: path and SHA-256 of each.
    package static func digest(_ files: [(String, String)]) -> String {
        // By Unicode scalars, as Python sorts; String's order is another.
        let sorted = files.sorted { $0.0.unicodeScalars.lexicographicallyPrecedes($1.0.unicodeScalars) }
        return SHA256.hex(sorted.map { "\($0.1)  \($0.0)\n" }.joined().utf8)
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
