// The part of Foundation that ASRDelivery uses as well: files, JSON, web addresses and URLSession.
open class NSObject { public init() {} }
public protocol ContiguousBytes {}
public protocol DataProtocol: RandomAccessCollection where Element == UInt8 {}
extension Data: ContiguousBytes, DataProtocol {}
extension Data: Codable, Hashable, RangeReplaceableCollection {
    public struct WritingOptions: OptionSet, Sendable {
        public let rawValue: UInt
        public init(rawValue: UInt) { self.rawValue = rawValue }
        public static let atomic = WritingOptions(rawValue: 1)
        @available(macOS 11, iOS 2, *) public static let completeFileProtection = WritingOptions(rawValue: 2)
    }
    public init() { fatalError() }
    public init(count: Int) { fatalError() }
    public init?(base64Encoded text: String) { nil }
    public func base64EncodedString() -> String { "" }
    public mutating func append(contentsOf other: Data) {}
    public mutating func replaceSubrange<C: Collection>(_ bounds: Range<Int>, with other: C) where C.Element == UInt8 {}
    public func write(to url: URL, options: WritingOptions = []) throws {}
    public static func == (one: Data, other: Data) -> Bool { false }
    public func hash(into hasher: inout Hasher) {}
    public init(from decoder: any Decoder) throws { fatalError() }
    public func encode(to encoder: any Encoder) throws {}
}
extension Data { public mutating func append(_ other: Data) {} }
public final class JSONEncoder {
    public init() {}
    public func encode<T: Encodable>(_ value: T) throws -> Data { fatalError() }
}
public struct UUID: Sendable {
    public init() {}
    public var uuidString: String { "" }
}
public struct URLResourceValues {
    public init() {}
    public var isExcludedFromBackup: Bool?
}
extension URL {
    public init?(string: String) { nil }
    public var absoluteString: String { "" }
    public var scheme: String? { nil }
    public var host: String? { nil }
    public var port: Int? { nil }
    public func deletingLastPathComponent() -> URL { self }
    public mutating func setResourceValues(_ values: URLResourceValues) throws {}
}
extension URL: Codable, Hashable {
    public init(from decoder: any Decoder) throws { fatalError() }
    public func encode(to encoder: any Encoder) throws {}
    public static func == (one: URL, other: URL) -> Bool { false }
    public func hash(into hasher: inout Hasher) {}
}
extension Date { public var timeIntervalSince1970: TimeInterval { 0 } }
public struct FileAttributeType: Hashable, Sendable {
    public static let typeRegular = FileAttributeType(), typeDirectory = FileAttributeType()
}
extension FileAttributeKey {
    public static let type = FileAttributeKey(), size = FileAttributeKey()
}
extension FileManager {
    public var temporaryDirectory: URL { fatalError() }
    public func copyItem(at url: URL, to other: URL) throws {}
    public func linkItem(at url: URL, to other: URL) throws {}
    public func createFile(
        atPath path: String, contents: Data?, attributes: [FileAttributeKey: Any]? = nil
    ) -> Bool { false }
    public func subpathsOfDirectory(atPath path: String) throws -> [String] { [] }
}
open class FileHandle: @unchecked Sendable {
    public init(fileDescriptor: Int32, closeOnDealloc: Bool) {}
    public init(forReadingFrom url: URL) throws {}
    public init(forWritingTo url: URL) throws {}
    public init(forUpdating url: URL) throws {}
    @available(macOS 10.15.4, iOS 13.4, *) public func read(upToCount count: Int) throws -> Data? { nil }
    @available(macOS 10.15.4, iOS 13.4, *) public func write<T: DataProtocol>(contentsOf data: T) throws {}
    @available(macOS 10.15, iOS 13, *) public func seek(toOffset offset: UInt64) throws {}
    @available(macOS 10.15, iOS 13, *) public func truncate(atOffset offset: UInt64) throws {}
    @available(macOS 10.15, iOS 13, *) public func synchronize() throws {}
    @available(macOS 10.15, iOS 13, *) public func close() throws {}
}
public struct CharacterSet: Sendable {
    public static let alphanumerics = CharacterSet(charactersIn: "")
    public init(charactersIn text: String) {}
    public func union(_ other: CharacterSet) -> CharacterSet { self }
}
extension String {
    public init(contentsOf url: URL, encoding: String.Encoding) throws { fatalError() }
}
extension StringProtocol {
    public func addingPercentEncoding(withAllowedCharacters allowed: CharacterSet) -> String? { nil }
    public func contains<Other: StringProtocol>(_ other: Other) -> Bool { false }
}
public struct URLError: Error {
    public struct Code: Hashable, Sendable { public static let cancelled = Code() }
    public var code: Code { Code() }
}
public struct URLRequest: Sendable {
    public enum CachePolicy: Sendable { case reloadIgnoringLocalCacheData }
    public init(url: URL, cachePolicy: CachePolicy, timeoutInterval: TimeInterval) {}
    public var url: URL? { nil }
    public mutating func setValue(_ value: String?, forHTTPHeaderField field: String) {}
    public func value(forHTTPHeaderField field: String) -> String? { nil }
}
open class URLResponse: NSObject, @unchecked Sendable { public var url: URL? { nil } }
open class HTTPURLResponse: URLResponse, @unchecked Sendable {
    public var statusCode: Int { 0 }
    @available(macOS 10.15, iOS 13, *) public func value(forHTTPHeaderField field: String) -> String? { nil }
}
open class URLSessionTask: NSObject, @unchecked Sendable {
    public enum State: Int, Sendable { case running, suspended, canceling, completed }
    public var taskIdentifier: Int { 0 }
    public var taskDescription: String?
    public var state: State { .running }
    public var response: URLResponse? { nil }
    public func resume() {}
    public func cancel() {}
}
open class URLSessionDataTask: URLSessionTask, @unchecked Sendable {}
open class URLSessionDownloadTask: URLSessionTask, @unchecked Sendable {}
open class URLSessionConfiguration: NSObject, @unchecked Sendable {
    public class var ephemeral: URLSessionConfiguration { URLSessionConfiguration() }
    public class func background(withIdentifier identifier: String) -> URLSessionConfiguration { fatalError() }
    public var sessionSendsLaunchEvents = false
}
public protocol URLSessionDelegate: AnyObject, Sendable {
    func urlSessionDidFinishEvents(forBackgroundURLSession session: URLSession)
}
extension URLSessionDelegate {
    public func urlSessionDidFinishEvents(forBackgroundURLSession session: URLSession) {}
}
public protocol URLSessionTaskDelegate: URLSessionDelegate {
    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    )
    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?)
}
public protocol URLSessionDataDelegate: URLSessionTaskDelegate {
    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping @Sendable (URLSession.ResponseDisposition) -> Void
    )
    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data)
}
extension URLSessionTaskDelegate {
    public func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {}
}
public protocol URLSessionDownloadDelegate: URLSessionTaskDelegate {
    func urlSession(_ session: URLSession, downloadTask: URLSessionDownloadTask, didFinishDownloadingTo location: URL)
    func urlSession(
        _ session: URLSession, downloadTask: URLSessionDownloadTask, didWriteData bytesWritten: Int64,
        totalBytesWritten: Int64, totalBytesExpectedToWrite: Int64
    )
}
open class URLSession: NSObject, @unchecked Sendable {
    public enum ResponseDisposition: Int, Sendable { case cancel, allow }
    public init(configuration: URLSessionConfiguration, delegate: (any URLSessionDelegate)?, delegateQueue: OperationQueue?) {}
    public func dataTask(with request: URLRequest) -> URLSessionDataTask { fatalError() }
    public func downloadTask(with request: URLRequest) -> URLSessionDownloadTask { fatalError() }
    public func getAllTasks(completionHandler: @escaping @Sendable ([URLSessionTask]) -> Void) {}
    public func finishTasksAndInvalidate() {}
}
public let O_NONBLOCK: Int32 = 4
