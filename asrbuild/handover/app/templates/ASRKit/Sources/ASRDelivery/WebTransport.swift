import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// Files over HTTP, from any web server or bucket that shows what `asrbuild ship` wrote.
///
/// A server that is busy or fails is asked again three times; one that is silent for half a minute is
/// given up. A redirect leads to another host over TLS alone, without the headers given here.
public final class ASRWebTransport: ASRTransport {
    /// The address, without a slash at its end.
    public let address: String
    private let headers: [String: String]
    private let session: URLSession
    private let router = Router()

    /// - Parameters:
    ///   - url: the remote's address.
    ///   - headers: sent with each request to this host, such as `Authorization`.
    ///   - configuration: of the session; nil: ephemeral. No answer is taken from a cache.
    public init(_ url: URL, headers: [String: String] = [:], configuration: URLSessionConfiguration? = nil) {
        let text = url.absoluteString
        address = text.hasSuffix("/") ? String(text.dropLast()) : text
        self.headers = headers
        session = URLSession(configuration: configuration ?? .ephemeral, delegate: router, delegateQueue: nil)
    }

    deinit { session.finishTasksAndInvalidate() }

    /// Fetches a file, from its middle where the server can do that.
    public func fetch(
        _ path: String, from start: Int, size: Int, receive: @escaping @Sendable (Data, Int) throws -> Void
    ) async throws -> Bool {
        let url = try url(path)
        for pause in [0.2, 0.8, 2, nil] {
            let answer = try await ask(url, from: start, receive)
            switch answer.status {
            case 200, 206: return true
            case 404: return false
            case 416 where start > 0: return try await fetch(path, from: 0, size: size, receive: receive)
            case 429, 500, 502, 503, 504:
                guard let pause = pause else { break }
                let seconds = max(pause, min(answer.retryAfter, 20))
                try await Task.sleep(nanoseconds: UInt64(seconds * 1e9))
                continue
            default: break
            }
            throw ASRDeliveryError.server("the server answered \(answer.status) for \(path)")
        }
        return false
    }

    func url(_ path: String) throws -> URL {
        // A plus in a path means a space to some servers.
        let plain = CharacterSet(charactersIn: "/-._~").union(.alphanumerics)
        let escaped = path.addingPercentEncoding(withAllowedCharacters: plain) ?? path
        guard let url = URL(string: "\(address)/\(escaped)") else {
            throw ASRDeliveryError.server("\(address) is not an address")
        }
        return url
    }

    func request(_ url: URL) -> URLRequest {
        var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData, timeoutInterval: 30)
        for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
        // Bytes are counted as they are signed: not compressed.
        request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
        return request
    }

    private func ask(
        _ url: URL, from start: Int, _ receive: @escaping @Sendable (Data, Int) throws -> Void
    ) async throws -> Answer {
        var request = request(url)
        if start > 0 { request.setValue("bytes=\(start)-", forHTTPHeaderField: "Range") }
        let task = session.dataTask(with: request)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                router.add(task, Request(continuation, receive))
                task.resume()
            }
        } onCancel: {
            task.cancel()
        }
    }
}

/// The status of an answer, and for how many seconds a busy server asks to wait.
private struct Answer {
    let status: Int
    let retryAfter: Double
}

/// One request on its way. Its callbacks come one at a time.
private final class Request: @unchecked Sendable {
    private let continuation: CheckedContinuation<Answer, any Error>
    private let receive: @Sendable (Data, Int) throws -> Void
    private var answer = Answer(status: 0, retryAfter: 0)
    private var place = 0
    private var failure: (any Error)?

    init(_ continuation: CheckedContinuation<Answer, any Error>, _ receive: @escaping @Sendable (Data, Int) throws -> Void) {
        self.continuation = continuation
        self.receive = receive
    }

    /// Whether the body is to be read.
    func begin(_ response: HTTPURLResponse) -> Bool {
        let wait = response.value(forHTTPHeaderField: "Retry-After").flatMap(Double.init) ?? 0
        answer = Answer(status: response.statusCode, retryAfter: wait)
        if response.statusCode == 206 {
            // bytes 100-199/200
            let range = response.value(forHTTPHeaderField: "Content-Range")?.split { " -".contains($0) }
            place = range.flatMap { $0.count > 1 ? Int($0[1]) : nil } ?? 0
        }
        return [200, 206].contains(response.statusCode)
    }

    func take(_ block: Data, _ task: URLSessionTask) {
        guard failure == nil, [200, 206].contains(answer.status) else { return }
        do { try receive(block, place) } catch {
            failure = error
            task.cancel()
        }
        place &+= block.count
    }

    func end(_ error: (any Error)?) {
        if let failure = failure {
            continuation.resume(throwing: failure)
        } else if answer.status != 0, error == nil || ![200, 206].contains(answer.status) {
            continuation.resume(returning: answer)
        } else if (error as? URLError)?.code == .cancelled {
            continuation.resume(throwing: CancellationError())
        } else {
            let reason = error?.localizedDescription ?? "it is no web server"
            continuation.resume(throwing: ASRDeliveryError.server("the server did not answer: \(reason)"))
        }
    }
}

/// Hands a session's callbacks to the requests that they are of.
private final class Router: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    private let lock = NSLock()
    private var requests: [Int: Request] = [:]

    func add(_ task: URLSessionTask, _ request: Request) {
        lock.withLock { requests[task.taskIdentifier] = request }
    }

    private func request(_ task: URLSessionTask) -> Request? {
        lock.withLock { requests[task.taskIdentifier] }
    }

    func urlSession(
        _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
        completionHandler: @escaping @Sendable (URLSession.ResponseDisposition) -> Void
    ) {
        let reads = (response as? HTTPURLResponse).flatMap { request(dataTask)?.begin($0) } ?? false
        completionHandler(reads ? .allow : .cancel)
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        request(dataTask)?.take(data, dataTask)
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        lock.withLock { requests.removeValue(forKey: task.taskIdentifier) }?.end(error)
    }

    func urlSession(
        _ session: URLSession, task: URLSessionTask, willPerformHTTPRedirection response: HTTPURLResponse,
        newRequest: URLRequest, completionHandler: @escaping @Sendable (URLRequest?) -> Void
    ) {
        guard let from = response.url, let to = newRequest.url else { return completionHandler(nil) }
        if (from.scheme, from.host, from.port) == (to.scheme, to.host, to.port) { return completionHandler(newRequest) }
        guard to.scheme == "https" else { return completionHandler(nil) }
        var bare = URLRequest(url: to, cachePolicy: .reloadIgnoringLocalCacheData, timeoutInterval: 30)
        for name in ["Accept-Encoding", "Range"] {
            bare.setValue(newRequest.value(forHTTPHeaderField: name), forHTTPHeaderField: name)
        }
        completionHandler(bare)
    }
}
