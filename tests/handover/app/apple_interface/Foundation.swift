// The part of Foundation (with Objective-C's pool and C's functions) that ASRKit's sources use: only to be
// type-checked against, for Apple's targets.
public final class NSNumber: Sendable { public var intValue: Int { 0 } }
public struct URL: Sendable {
    public init(fileURLWithPath path: String) {}
    public var pathExtension: String { "" }
    public var path: String { "" }
    public var lastPathComponent: String { "" }
    public func appendingPathComponent(_ name: String) -> URL { self }
    public func appendingPathComponent(_ name: String, isDirectory: Bool) -> URL { self }
    public func deletingPathExtension() -> URL { self }
    public func appendingPathExtension(_ name: String) -> URL { self }
}
public final class Bundle: @unchecked Sendable {
    public static let main = Bundle()
    public var resourceURL: URL? { nil }
    public var bundleURL: URL { fatalError() }
    public func url(forResource name: String?, withExtension ext: String?) -> URL? { nil }
}
public typealias TimeInterval = Double
public struct Date: Sendable {
    public init() {}
    public func timeIntervalSince(_ date: Date) -> TimeInterval { 0 }
}
public struct FileAttributeKey: Hashable, Sendable { public static let modificationDate = FileAttributeKey() }
open class FileManager: @unchecked Sendable {
    public enum SearchPathDirectory: Sendable { case applicationSupportDirectory }
    public struct SearchPathDomainMask: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let userDomainMask = SearchPathDomainMask(rawValue: 1)
    }
    public static let `default` = FileManager()
    public func url(
        for directory: SearchPathDirectory, in domain: SearchPathDomainMask, appropriateFor url: URL?,
        create: Bool
    ) throws -> URL { fatalError() }
    public func fileExists(atPath path: String) -> Bool { false }
    public func createDirectory(
        at url: URL, withIntermediateDirectories: Bool, attributes: [FileAttributeKey: Any]? = nil
    ) throws {}
    public func moveItem(at url: URL, to other: URL) throws {}
    public func removeItem(at url: URL) throws {}
    public func setAttributes(_ attributes: [FileAttributeKey: Any], ofItemAtPath path: String) throws {}
    public func attributesOfItem(atPath path: String) throws -> [FileAttributeKey: Any] { [:] }
    public func contentsOfDirectory(atPath path: String) throws -> [String] { [] }
}
public struct Data: RandomAccessCollection, Sendable {
    public struct ReadingOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let mappedIfSafe = ReadingOptions(rawValue: 1)
    }
    public init(contentsOf url: URL, options: ReadingOptions = []) throws {}
    public var startIndex: Int { 0 }
    public var endIndex: Int { 0 }
    public subscript(index: Int) -> UInt8 { 0 }
    public subscript(bounds: Range<Int>) -> Data { self }
    public func withUnsafeBytes<Result>(
        _ body: (UnsafeRawBufferPointer) throws -> Result
    ) rethrows -> Result { try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    public init<S: Sequence>(_ bytes: S) where S.Element == UInt8 {}
}
public final class JSONDecoder {
    public init() {}
    public var userInfo: [CodingUserInfoKey: any Sendable] = [:]
    public func decode<T: Decodable>(_ type: T.Type, from data: Data) throws -> T { fatalError() }
}
public struct OperatingSystemVersion: Sendable {
    public var majorVersion = 0, minorVersion = 0, patchVersion = 0
}
public final class ProcessInfo: Sendable {
    public static let processInfo = ProcessInfo()
    public var systemUptime: TimeInterval { 0 }
    @available(macOS 11, iOS 14, *) public var isiOSAppOnMac: Bool { false }
    @available(macOS 10.15, iOS 13, *) public var isMacCatalystApp: Bool { false }
    public var operatingSystemVersion: OperatingSystemVersion { .init() }
    public var operatingSystemVersionString: String { "" }
}
public protocol LocalizedError: Error { var errorDescription: String? { get } }
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result { try body() }
public func cos(_ x: Double) -> Double { x }
public func sin(_ x: Double) -> Double { x }
public func log(_ x: Double) -> Double { x }
public func exp(_ x: Double) -> Double { x }
public func sqrt(_ x: Double) -> Double { x }
public func log10(_ x: Double) -> Double { x }
public func pow(_ x: Double, _ y: Double) -> Double { x }
public func log1p(_ x: Double) -> Double { x }
extension StringProtocol {
    public func replacingOccurrences<Target: StringProtocol, Replacement: StringProtocol>(
        of target: Target, with replacement: Replacement
    ) -> String { "" }
}
public protocol NSObjectProtocol {}
open class NSNotification {
    public struct Name: Hashable, Sendable { public init() {} }
}
public struct Notification {
    public typealias Name = NSNotification.Name
    public var userInfo: [AnyHashable: Any]?
}
open class OperationQueue {}
open class NotificationCenter: @unchecked Sendable {
    public class var `default`: NotificationCenter { NotificationCenter() }
    public func addObserver(
        forName name: NSNotification.Name?, object: Any?, queue: OperationQueue?,
        using block: @escaping @Sendable (Notification) -> Void
    ) -> any NSObjectProtocol { fatalError() }
    public func removeObserver(_ observer: Any) {}
}
open class DispatchQueue: @unchecked Sendable {
    public init(label: String) {}
    public func async(execute work: @escaping @Sendable () -> Void) {}
}
public func log(_ x: Float) -> Float { x }
public func exp(_ x: Float) -> Float { x }
public struct stat {
    public init() {}
    public var st_size: Int64 { 0 }
    public var st_mode: UInt16 { 0 }
}
public let O_RDONLY: Int32 = 0, PROT_READ: Int32 = 1, MAP_PRIVATE: Int32 = 2
public let S_IFMT: UInt16 = 0xf000, S_IFREG: UInt16 = 0x8000
public var MAP_FAILED: UnsafeMutableRawPointer! { nil }
public func open(_ path: UnsafePointer<CChar>, _ flags: Int32) -> Int32 { 0 }
@discardableResult public func close(_ descriptor: Int32) -> Int32 { 0 }
@discardableResult public func fstat(_ descriptor: Int32, _ facts: UnsafeMutablePointer<stat>!) -> Int32 { 0 }
public func mmap(
    _ address: UnsafeMutableRawPointer!, _ size: Int, _ protection: Int32, _ flags: Int32, _ descriptor: Int32,
    _ offset: Int64
) -> UnsafeMutableRawPointer! { nil }
@discardableResult public func munmap(_ address: UnsafeMutableRawPointer!, _ size: Int) -> Int32 { 0 }
public final class NSLock: @unchecked Sendable {
    public init() {}
    public func withLock<Result>(_ body: () throws -> Result) rethrows -> Result { try body() }
}
extension Error {
    public var localizedDescription: String { "" }
}
