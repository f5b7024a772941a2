// The part of Foundation (with Objective-C's pool and C's functions) that ASRKit's sources use: only to be
// type-checked against, for Apple's targets.
public final class NSNumber: Sendable { public var intValue: Int { 0 } }
public struct URL: Sendable { public var pathExtension: String { "" } }
public struct Data: Sendable {
    public init(contentsOf url: URL) throws {}
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
    public var operatingSystemVersion: OperatingSystemVersion { .init() }
}
public protocol LocalizedError: Error { var errorDescription: String? { get } }
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result { try body() }
public func cos(_ x: Double) -> Double { x }
public func sin(_ x: Double) -> Double { x }
public func log(_ x: Double) -> Double { x }
public func exp(_ x: Double) -> Double { x }
public func sqrt(_ x: Double) -> Double { x }
public func log1p(_ x: Double) -> Double { x }
