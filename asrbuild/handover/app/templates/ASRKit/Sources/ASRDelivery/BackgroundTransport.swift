import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// Files over HTTP that arrive while the app is suspended, and after the system ended it.
///
/// The large files, `blobs/<sha256>`, are fetched by a background session of the system; records and
/// headers as by `ASRWebTransport`. After the app was ended, the same pull takes what arrived
/// meanwhile and waits for what is still on its way. One transport has the identifier at a time.
public final class ASRBackgroundTransport: ASRTransport {
    /// The address, without a slash at its end.
    public var address: String { web.address }
    private let web: ASRWebTransport
    private let session: URLSession
    private let arrivals: Arrivals

    #if !os(Linux)
    /// - Parameters:
    ///   - url: the remote's address.
    ///   - identifier: the session's, the same at each start of the app.
    ///   - headers: sent with each request, such as `Authorization`.
    ///   - folder: keeps what arrived until it is taken; nil: in Application Support.
    public convenience init(_ url: URL, identifier: String, headers: [String: String] = [:], folder: URL? = nil) throws {
        let configuration = URLSessionConfiguration.background(withIdentifier: identifier)
        configuration.sessionSendsLaunchEvents = true
        try self.init(url, configuration, folder, headers: headers)
    }
    #endif

    package init(_ url: URL, _ configuration: URLSessionConfiguration, _ folder: URL?, headers: [String: String] = [:]) throws {
        web = ASRWebTransport(url, headers: headers)
        let files = FileManager.default
        let kept = try folder ?? files.url(
            for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
        ).appendingPathComponent("ASRKit/arrived", isDirectory: true)
        try files.createDirectory(at: kept, withIntermediateDirectories: true)
        arrivals = Arrivals(kept)
        session = URLSession(configuration: configuration, delegate: arrivals, delegateQueue: nil)
    }

    deinit { session.finishTasksAndInvalidate() }

    /// For `application(_:handleEventsForBackgroundURLSession:completionHandler:)`: the handler is
    /// called once the system has handed over what arrived, on any thread.
    public func handleEvents(completion: @escaping @Sendable () -> Void) { arrivals.whenDone(completion) }

    /// Fetches a file; a large one in the background.
    public func fetch(
        _ path: String, from start: Int, size: Int, receive: @escaping @Sendable (Data, Int) throws -> Void
    ) async throws -> Bool {
        guard path.hasPrefix("blobs/") else {
            return try await web.fetch(path, from: start, size: size, receive: receive)
        }
        let url = try web.url(path), name = String(path.dropFirst(6))
        let kept = arrivals.folder.appendingPathComponent(name)
        if !FileManager.default.fileExists(atPath: kept.path) {
            // One that an earlier run of the app began goes on.
            let known = await withCheckedContinuation { known in session.getAllTasks { known.resume(returning: $0) } }
            let running = known.first { $0.taskDescription == name && $0.state == .running }
            let task = running ?? session.downloadTask(with: web.request(url))
            task.taskDescription = name
            let status = try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    arrivals.wait(for: name, size: size, continuation)
                    task.resume()
                }
            } onCancel: {
                task.cancel()
            }
            if status == 404 { return false }
            guard status == 200 else { throw ASRDeliveryError.server("the server answered \(status) for \(path)") }
        }
        defer { try? FileManager.default.removeItem(at: kept) }
        let handle = try FileHandle(forReadingFrom: kept)
        defer { try? handle.close() }
        var place = 0
        while let block = try handle.read(upToCount: 1 << 20), !block.isEmpty {
            try Task.checkCancellation()
            try receive(block, place)
            place += block.count
        }
        return true
    }
}

/// The files that a background session hands over, and the fetches that wait for them.
private final class Arrivals: NSObject, URLSessionDownloadDelegate, @unchecked Sendable {
    private struct Waiting {
        let size: Int
        let continuation: CheckedContinuation<Int, any Error>
    }

    let folder: URL
    private let lock = NSLock()
    private var waiting: [String: Waiting] = [:]
    private var failures: [String: any Error] = [:]
    private var done: (@Sendable () -> Void)?

    init(_ folder: URL) { self.folder = folder }

    func wait(for name: String, size: Int, _ continuation: CheckedContinuation<Int, any Error>) {
        lock.withLock { waiting[name] = Waiting(size: size, continuation: continuation) }
    }

    func whenDone(_ completion: @escaping @Sendable () -> Void) { lock.withLock { done = completion } }

    func urlSession(_ session: URLSession, downloadTask: URLSessionDownloadTask, didFinishDownloadingTo location: URL) {
        guard let name = downloadTask.taskDescription, (downloadTask.response as? HTTPURLResponse)?.statusCode == 200 else {
            return
        }
        let kept = folder.appendingPathComponent(name)
        // The file is gone when this returns.
        try? FileManager.default.removeItem(at: kept)
        do { try FileManager.default.moveItem(at: location, to: kept) } catch {
            lock.withLock { failures[name] = error }
        }
    }

    func urlSession(
        _ session: URLSession, downloadTask: URLSessionDownloadTask, didWriteData bytesWritten: Int64,
        totalBytesWritten: Int64, totalBytesExpectedToWrite: Int64
    ) {
        let name = downloadTask.taskDescription ?? ""
        guard let size = lock.withLock({ waiting[name]?.size }), totalBytesWritten > size else { return }
        lock.withLock { failures[name] = ASRRefused(.tooLarge, "the answer has more than \(size) bytes") }
        downloadTask.cancel()
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        let name = task.taskDescription ?? ""
        let failure = lock.withLock { failures.removeValue(forKey: name) }
        let waiting = lock.withLock { self.waiting.removeValue(forKey: name) }
        if let failure = failure {
            waiting?.continuation.resume(throwing: failure)
        } else if (error as? URLError)?.code == .cancelled {
            waiting?.continuation.resume(throwing: CancellationError())
        } else if let error = error {
            waiting?.continuation.resume(throwing: ASRDeliveryError.server("the server did not answer: \(error.localizedDescription)"))
        } else {
            waiting?.continuation.resume(returning: (task.response as? HTTPURLResponse)?.statusCode ?? 0)
        }
    }

    #if !os(Linux)
    func urlSessionDidFinishEvents(forBackgroundURLSession session: URLSession) {
        let completion = lock.withLock { () -> (@Sendable () -> Void)? in
            defer { done = nil }
            return done
        }
        completion?()
    }
    #endif
}
