// The part of Foundation that ASRConformance uses beyond the others: only to be type-checked against.
extension Data {
    public init(capacity: Int) { fatalError() }
}
extension JSONEncoder {
    public struct OutputFormatting: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let sortedKeys = OutputFormatting(rawValue: 1)
        public static let withoutEscapingSlashes = OutputFormatting(rawValue: 2)
    }
    public enum KeyEncodingStrategy: Sendable { case convertToSnakeCase }
    public var outputFormatting: OutputFormatting {
        get { [] }
        set {}
    }
    public var keyEncodingStrategy: KeyEncodingStrategy {
        get { .convertToSnakeCase }
        set {}
    }
}
public final class ISO8601DateFormatter {
    public init() {}
    public func string(from date: Date) -> String { "" }
}
public struct DispatchTime {
    public static func now() -> DispatchTime { DispatchTime() }
    public var uptimeNanoseconds: UInt64 { 0 }
}
extension ProcessInfo {
    public var physicalMemory: UInt64 { 0 }
}
extension String {
    public struct Encoding: Sendable { public static let utf8 = Encoding() }
    public init(contentsOfFile path: String, encoding: Encoding) throws { self = "" }
}
