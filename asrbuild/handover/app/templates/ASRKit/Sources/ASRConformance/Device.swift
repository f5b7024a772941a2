import Foundation

/// A device, as evidence describes it.
public struct ASRDevice: Encodable, Sendable {
    /// `device`, `simulator` or `virtual machine`.
    public var kind: String
    /// Apple's name of the model, such as `iPhone16,2`.
    public var identifier: String
    /// `iOS` or `macOS`.
    public var os: String
    /// Its version.
    public var osVersion: String
    /// Its build, such as `21E213`.
    public var osBuild: String
    /// The device's memory.
    public var memoryBytes: Int
    /// Whether the battery is spared; nil: not known.
    public var lowPower: Bool?
    /// The thermal state before and after the passes.
    public var thermal: [String]

    /// A device.
    public init(
        kind: String, identifier: String, os: String, osVersion: String, osBuild: String,
        memoryBytes: Int, lowPower: Bool? = nil, thermal: [String] = ["unknown", "unknown"]
    ) {
        self.kind = kind
        self.identifier = identifier
        self.os = os
        self.osVersion = osVersion
        self.osBuild = osBuild
        self.memoryBytes = memoryBytes
        self.lowPower = lowPower
        self.thermal = thermal
    }

    enum CodingKeys: String, CodingKey {
        case kind, identifier, chip, os, osVersion, osBuild, memoryBytes, lowPower, power, thermal
    }

    /// Writes the section `device` of a document.
    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(kind, forKey: .kind)
        try fields.encode(identifier, forKey: .identifier)
        try fields.encodeNil(forKey: .chip)
        try fields.encode(os, forKey: .os)
        try fields.encode(osVersion, forKey: .osVersion)
        try fields.encode(osBuild, forKey: .osBuild)
        try fields.encode(memoryBytes, forKey: .memoryBytes)
        try fields.encode(Null(lowPower), forKey: .lowPower)
        try fields.encodeNil(forKey: .power)
        try fields.encode(thermal, forKey: .thermal)
    }

    /// This device.
    public static var current: ASRDevice {
        let process = ProcessInfo.processInfo
        let version = process.operatingSystemVersion
        var (kind, lowPower) = ("device", Bool?.none)
        #if targetEnvironment(simulator)
        kind = "simulator"
        #endif
        #if os(macOS)
        let (os, name) = ("macOS", "hw.model")
        if control("kern.hv_vmm_present").first == 1 { kind = "virtual machine" }
        #elseif os(iOS)
        let (os, name) = ("iOS", "hw.machine")
        #else
        let (os, name) = ("", "")
        kind = "virtual machine"
        #endif
        #if canImport(Darwin)
        lowPower = process.isLowPowerModeEnabled
        #endif
        return ASRDevice(
            kind: kind, identifier: text(control(name)), os: os,
            osVersion: "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)",
            osBuild: text(control("kern.osversion")), memoryBytes: Int(clamping: process.physicalMemory),
            lowPower: lowPower, thermal: [thermalState, thermalState]
        )
    }

    /// The thermal state now.
    static var thermalState: String {
        #if canImport(Darwin)
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return "unknown"
        }
        #else
        return "unknown"
        #endif
    }

    private static func text(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// A value of the system's control interface; empty where there is none.
    private static func control(_ name: String) -> [UInt8] {
        #if canImport(Darwin)
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: size)
        return sysctlbyname(name, &bytes, &size, nil, 0) == 0 ? bytes : []
        #else
        return []
        #endif
    }

    /// The memory of this process in bytes, now and at its largest, and what the system calls it.
    static var memory: (counts: String, now: Int, peak: Int) {
        #if canImport(Darwin)
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(
            MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size
        )
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        guard status == KERN_SUCCESS else { return ("phys_footprint", 0, 0) }
        return ("phys_footprint", Int(info.phys_footprint), Int(info.ledger_phys_footprint_peak))
        #else
        let text = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        func kilobytes(_ key: String) -> Int {
            let line = text.split(separator: "\n").first { $0.hasPrefix(key) }
            return line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first
                .flatMap { Int($0) } ?? 0
        }
        return ("max_rss", 1024 * kilobytes("VmRSS:"), 1024 * kilobytes("VmHWM:"))
        #endif
    }
}
