import ASRCore
import Foundation

/// Files on their way, by their digests, until an artifact is made of them.
///
/// Complete files are not fetched again, and an interrupted file continues where it ended.
struct Blobs: Sendable {
    let folder: URL

    func url(_ file: SignedFile) -> URL { folder.appendingPathComponent(file.sha256) }

    /// Makes sure that a file is here, whole and proven.
    ///
    /// - Parameters:
    ///   - copy: a file of an installed artifact that had the same digest.
    ///   - report: takes the number of bytes that are here now.
    func bring(
        _ file: SignedFile, from remote: ASRRemote, copy: URL?, report: @escaping @Sendable (Int) -> Void
    ) async throws {
        let url = url(file)
        if let copy = copy, !FileManager.default.fileExists(atPath: url.path) {
            try? FileManager.default.copyItem(at: copy, to: url)
        }
        let blob = try Blob(file, at: url, report)
        if try blob.isWhole() { return }
        let held = blob.count
        do {
            try await fetch(file, into: blob, from: remote)
        } catch let refused as ASRRefused where refused.reason == .digestMismatch && held > 0 {
            // Its beginning was of an earlier attempt: once more, from the start.
            try await fetch(file, into: Blob(file, at: url, report), from: remote)
        }
    }

    private func fetch(_ file: SignedFile, into blob: Blob, from remote: ASRRemote) async throws {
        let arrival = Arrival(file.bytes, held: blob.count)
        let found = try await remote.transport.fetch("blobs/\(file.sha256)", from: blob.count, size: file.bytes) { block, at in
            try arrival.admit(block.count, at: at)
            try blob.write(block, at: at)
        }
        guard found else { throw ASRRefused(.fileMissing, "the remote has no blobs/\(file.sha256)") }
        try blob.finish()
    }
}

/// One file on its way, and the digest of what is here of it.
private final class Blob: @unchecked Sendable {
    // Blocks come one at a time.
    private let file: SignedFile
    private let url: URL
    private let handle: FileHandle
    private let report: @Sendable (Int) -> Void
    private var digest = SHA256()
    private(set) var count = 0

    /// Opens the file, and reads what is here already.
    init(_ file: SignedFile, at url: URL, _ report: @escaping @Sendable (Int) -> Void) throws {
        let files = FileManager.default
        let type = try? files.attributesOfItem(atPath: url.path)[.type] as? FileAttributeType
        if let type = type, type != .typeRegular { try files.removeItem(at: url) }
        if type != .typeRegular { _ = files.createFile(atPath: url.path, contents: nil) }
        self.file = file
        self.url = url
        self.report = report
        handle = try FileHandle(forUpdating: url)
        while let block = try handle.read(upToCount: 1 << 20), !block.isEmpty, count <= file.bytes {
            try Task.checkCancellation()
            take(block)
        }
    }

    deinit { try? handle.close() }

    /// Whether all of it is here; what cannot be a part of it is dropped.
    func isWhole() throws -> Bool {
        guard count >= file.bytes else { return false }
        if count == file.bytes, digest.finish() == file.sha256 { return true }
        try restart()
        return false
    }

    func write(_ block: Data, at place: Int) throws {
        if place == 0, count > 0 { try restart() }
        try handle.write(contentsOf: block)
        take(block)
    }

    /// Proves the whole file; one with another digest is removed.
    func finish() throws {
        guard count >= file.bytes else {
            throw ASRRefused(.truncated, "\(file.path) ends \(file.bytes - count) bytes early")
        }
        guard digest.finish() == file.sha256 else {
            try FileManager.default.removeItem(at: url)
            throw ASRRefused(.digestMismatch, "the digest of \(file.path) is not the signed one")
        }
        try handle.synchronize()
    }

    private func take(_ block: Data) {
        block.withUnsafeBytes { digest.update($0) }
        count += block.count
        report(min(count, file.bytes))
    }

    private func restart() throws {
        try handle.truncate(atOffset: 0)
        try handle.seek(toOffset: 0)
        (digest, count) = (SHA256(), 0)
    }
}
