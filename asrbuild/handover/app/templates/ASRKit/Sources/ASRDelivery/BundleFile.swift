import ASRCore
import Foundation

/// A `.asrb` file: one artifact, or variants of one, with contents that follow the header.
struct BundleFile {
    private static let magic = Data([0x89, 0x41, 0x53, 0x52, 0x0d, 0x0a, 0x1a, 0x0a])
    private static let variantsFormat = "asrbuild-bundle-of-variants/1"
    private static let variantsType = "application/vnd.asrbuild.variants+json"

    let headers: [Header]
    /// Empty in a bundle of one artifact.
    let variants: [Variant]
    private let envelope: Envelope?
    private let contents: [SignedFile]
    private let handle: FileHandle
    private let start: Int

    /// Opens a file and checks its shape, limits and length; no signature or digest.
    init(_ url: URL) throws {
        // A pipe or a device must not be waited for.
        let descriptor = open(url.path, O_RDONLY | O_NONBLOCK)
        guard descriptor >= 0 else { throw ASRDeliveryError.notFound("file \(url.lastPathComponent)") }
        handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        var facts = stat()
        guard fstat(descriptor, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG else {
            throw ASRRefused(.notABundle, "it is not a plain file")
        }
        let raw = try Self.rawHeader(handle)
        start = 12 + raw.count
        let format = try strict(raw, Header.maxBytes, .headerMalformed)["format"]?.string
        if format == Self.variantsFormat {
            let fields = try Header.fields(raw, Self.variantsFormat, ["envelope", "format", "headers"])
            (headers, variants, envelope) = try Self.variants(fields)
            contents = try Self.once(headers)
        } else {
            let header = try Header(raw)
            (headers, variants, envelope, contents) = ([header], [], nil, header.files)
        }
        let expected = start + contents.reduce(0) { $0 + $1.bytes }
        let size = Int(facts.st_size)
        guard size >= expected else { throw ASRRefused(.truncated, "it has \(size) bytes of \(expected)") }
        guard size == expected else {
            throw ASRRefused(.trailingBytes, "\(size - expected) bytes follow its last file")
        }
    }

    /// Proves every signature and every digest.
    func prove(_ trust: Trust) throws {
        _ = try envelope?.signers(trust)
        for header in headers { _ = try header.signer(trust) }
        try handle.seek(toOffset: UInt64(start))
        for file in contents { try read(file) { _ in } }
    }

    /// Writes the files of one of its artifacts into a folder, and proves them again as they are read.
    func unpack(_ header: Header, into folder: URL) throws {
        try handle.seek(toOffset: UInt64(start))
        for file in contents {
            let own = variants.isEmpty ? [file] : header.files.filter { $0.sha256 == file.sha256 }
            let handles = try own.map { try newFile($0.path, in: folder) }
            try read(file) { block in for handle in handles { try handle.write(contentsOf: block) } }
            for handle in handles {
                try handle.synchronize()
                try handle.close()
            }
        }
    }

    private static func rawHeader(_ handle: FileHandle) throws -> Data {
        let start = try handle.read(upToCount: 12) ?? Data()
        guard !start.isEmpty, start.prefix(8) == magic.prefix(start.count) else {
            throw ASRRefused(.notABundle, "its first bytes are not those of a bundle")
        }
        guard start.count == 12 else { throw ASRRefused(.truncated, "it ends before its header") }
        let length = start.suffix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= Header.maxBytes else {
            throw ASRRefused(.headerTooLarge, "the header has \(length) bytes, at most \(Header.maxBytes) are read")
        }
        let raw = try handle.read(upToCount: length) ?? Data()
        guard raw.count == length else { throw ASRRefused(.truncated, "it ends within its header") }
        return raw
    }

    private static func variants(_ fields: [String: CanonicalJSON]) throws -> ([Header], [Variant], Envelope?) {
        guard let listed = fields["headers"]?.array else {
            throw ASRRefused(.headerMalformed, "its headers are not a list")
        }
        guard (1...32).contains(listed.count) else {
            throw ASRRefused(.tooManyFiles, "it has \(listed.count) variants, 1 to 32 are read")
        }
        let headers = try listed.map { try Header(Data($0.spelled.utf8)) }
        let envelope = try Envelope(fields["envelope"], type: variantsType, malformed: .headerMalformed)
        let variants = try Variant.list(try envelope.json(.headerMalformed))
        let named = variants.map { [$0.header, $0.name, $0.version] }
        guard named == headers.map({ [$0.digest, $0.name, $0.version] }) else {
            throw ASRRefused(.statementMismatch, "the signed variants are not the artifacts in the bundle")
        }
        return (headers, variants, envelope)
    }

    /// Every content once, in the order in which the headers first name it.
    private static func once(_ headers: [Header]) throws -> [SignedFile] {
        var known: [String: Int] = [:], files: [SignedFile] = []
        for file in headers.flatMap(\.files) {
            if known[file.sha256] == nil { files.append(file) }
            guard known.updateValue(file.bytes, forKey: file.sha256) ?? file.bytes == file.bytes else {
                throw ASRRefused(.headerMalformed, "\(file.path) has two sizes and one digest")
            }
        }
        guard files.reduce(0, { $0 + $1.bytes }) <= Header.maxTotal else {
            throw ASRRefused(.tooLarge, "its files are larger than \(Header.maxTotal) bytes")
        }
        return files
    }

    /// Hands on exactly the file's bytes, and refuses afterwards where they were others.
    private func read(_ file: SignedFile, _ write: (Data) throws -> Void) throws {
        var digest = SHA256(), left = file.bytes
        while left > 0 {
            try Task.checkCancellation()
            guard let block = try handle.read(upToCount: min(1 << 20, left)), !block.isEmpty else {
                throw ASRRefused(.truncated, "\(file.path) ends \(left) bytes early")
            }
            block.withUnsafeBytes { digest.update($0) }
            try write(block)
            left -= block.count
        }
        guard digest.finish() == file.sha256 else {
            throw ASRRefused(.digestMismatch, "\(file.path) does not match its digest in the header")
        }
    }

    private func newFile(_ path: String, in folder: URL) throws -> FileHandle {
        let url = folder.appendingPathComponent(path)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        _ = FileManager.default.createFile(atPath: url.path, contents: nil)
        return try FileHandle(forWritingTo: url)
    }
}
