import ASRCore
import Foundation

/// The artifacts in the app's container.
///
///     artifacts/<name>/<version>-<digits of the header's digest>/   the signed files and nothing else
///     signed/<name>/<the same>.json                                 their header
///     incoming/                                                     what is not whole yet
struct Shelf: Sendable {
    let root: URL

    var incoming: URL { root.appendingPathComponent("incoming", isDirectory: true) }

    func folder(_ header: Header) -> URL { place("artifacts", header) }

    /// An artifact appears whole, in one step, or not at all.
    ///
    /// - Parameter fill: writes the header's files into a new folder, or throws.
    func publish(_ header: Header, fill: (URL) throws -> Void) throws {
        let files = FileManager.default
        let made = incoming.appendingPathComponent("\(UUID().uuidString).made", isDirectory: true)
        let away = made.deletingPathExtension().appendingPathExtension("away")
        defer { for left in [made, away] { try? files.removeItem(at: left) } }
        try files.createDirectory(at: made, withIntermediateDirectories: true)
        try fill(made)
        let target = folder(header)
        try files.createDirectory(at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        if files.fileExists(atPath: target.path) { try files.moveItem(at: target, to: away) }
        try files.moveItem(at: made, to: target)
        try keep(header)
    }

    /// Keeps the header of an artifact that is here.
    func keep(_ header: Header) throws {
        let url = place("signed", header).appendingPathExtension("json")
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try header.raw.write(to: url, options: .atomic)
    }

    /// Every kept header that can be read.
    func headers() -> [Header] {
        let signed = root.appendingPathComponent("signed", isDirectory: true)
        return names(in: signed).flatMap { name -> [Header] in
            let folder = signed.appendingPathComponent(name, isDirectory: true)
            return names(in: folder).compactMap { try? Header(Data(contentsOf: folder.appendingPathComponent($0))) }
        }
    }

    /// Whether an artifact has exactly its signed files.
    ///
    /// - Parameter everyByte: false compares sizes alone.
    func holds(_ header: Header, everyByte: Bool) throws -> Bool {
        let folder = folder(header), files = FileManager.default
        var left = Dictionary(uniqueKeysWithValues: header.files.map { ($0.path, $0) })
        guard let paths = try? files.subpathsOfDirectory(atPath: folder.path) else { return false }
        for path in paths {
            let url = folder.appendingPathComponent(path)
            let facts = try files.attributesOfItem(atPath: url.path)
            let type = facts[.type] as? FileAttributeType
            if type == .typeDirectory { continue }
            guard
                type == .typeRegular, let file = left.removeValue(forKey: path),
                (facts[.size] as? NSNumber)?.intValue == file.bytes
            else { return false }
            if everyByte, try Self.digest(url) != file.sha256 { return false }
        }
        return left.isEmpty
    }

    /// Removes artifacts but those of these headers, and what no pull went on with for a week.
    ///
    /// - Returns: names and versions.
    func remove(but kept: Set<String>) throws -> [String] {
        let files = FileManager.default
        var removed: [String] = []
        for header in headers() where !kept.contains(header.digest) {
            // The header first: without it, what is left of the folder is no artifact.
            try files.removeItem(at: place("signed", header).appendingPathExtension("json"))
            try? files.removeItem(at: folder(header))
            removed.append("\(header.name) \(header.version)")
        }
        for name in names(in: incoming) {
            let url = incoming.appendingPathComponent(name)
            let date = try? files.attributesOfItem(atPath: url.path)[.modificationDate] as? Date
            let isOld = date.map { Date().timeIntervalSince($0) > 7 * 24 * 3600 } ?? false
            if isOld || name.contains(".") { try? files.removeItem(at: url) }
        }
        return removed
    }

    private func place(_ kind: String, _ header: Header) -> URL {
        root.appendingPathComponent("\(kind)/\(header.name)", isDirectory: true).appendingPathComponent(header.folderName)
    }

    private func names(in folder: URL) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
    }

    private static func digest(_ url: URL) throws -> String {
        let handle = try FileHandle(forReadingFrom: url)
        defer { try? handle.close() }
        var digest = SHA256()
        while let block = try handle.read(upToCount: 1 << 20), !block.isEmpty {
            try Task.checkCancellation()
            block.withUnsafeBytes { digest.update($0) }
        }
        return digest.finish()
    }
}
