import Foundation

/// A file mapped into memory, read little-endian at any offset.
///
/// Offsets must be inside of it: those who read check the sizes of all parts when they open it.
final class MappedFile: @unchecked Sendable {
    // The pages are never written, so several threads may read them.
    let bytes: UnsafeRawBufferPointer
    private let base: UnsafeMutableRawPointer?
    private let lock = NSLock()
    private var digest: String?

    init(contentsOf url: URL) throws {
        let descriptor = open(url.path, O_RDONLY)
        guard descriptor >= 0 else {
            throw ASRError.badScorer("\(url.lastPathComponent) cannot be opened")
        }
        defer { close(descriptor) }
        var facts = stat()
        guard fstat(descriptor, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else {
            throw ASRError.badScorer("\(url.lastPathComponent) is not a file")
        }
        let size = Int(facts.st_size)
        guard size > 0 else {
            base = nil
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        let mapped = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let mapped, mapped != MAP_FAILED else {
            throw ASRError.badScorer("\(url.lastPathComponent) cannot be mapped into memory")
        }
        base = mapped
        bytes = UnsafeRawBufferPointer(start: mapped, count: size)
    }

    /// SHA-256 of the whole file, in hexadecimal digits; computed at its first use.
    var sha256: String {
        lock.withLock {
            if let digest { return digest }
            var all = SHA256()
            all.update(bytes)
            let found = all.finish()
            digest = found
            return found
        }
    }

    deinit {
        if let base { munmap(base, bytes.count) }
    }

    @inline(__always)
    func read<Value: FixedWidthInteger>(_ offset: Int, as: Value.Type = Value.self) -> Value {
        Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    @inline(__always)
    func float(_ offset: Int) -> Float {
        Float(bitPattern: read(offset))
    }

    func double(_ offset: Int) -> Double {
        Double(bitPattern: read(offset))
    }
}

/// The parts of a file one after another: each is checked to be inside of it.
struct FileLayout {
    let size: Int
    private(set) var at = 0

    init(size: Int, at: Int = 0) {
        self.size = size
        self.at = at
    }

    /// Takes `count` times `width` bytes; returns where they begin.
    mutating func take(_ count: Int, of width: Int = 1, _ what: String) throws -> Int {
        let (amount, tooMany) = count.multipliedReportingOverflow(by: width)
        let (end, tooFar) = at.addingReportingOverflow(amount)
        guard count >= 0, !tooMany, !tooFar, end <= size else {
            throw ASRError.badScorer("is truncated in its \(what)")
        }
        defer { at = end }
        return at
    }

    /// Goes on at the next multiple of `boundary`.
    mutating func align(to boundary: Int, _ what: String) throws {
        _ = try take((boundary - at % boundary) % boundary, what)
    }
}
