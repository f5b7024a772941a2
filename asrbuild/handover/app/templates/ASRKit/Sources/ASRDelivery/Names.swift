import ASRCore

/// Names, versions, channels and paths that are portable and stay inside of their folder.
enum Names {
    /// Devices that Windows opens by these names in every folder.
    private static let devices = Set(
        ["con", "prn", "aux", "nul"] + (1...9).flatMap { ["com\($0)", "lpt\($0)"] }
    )
    private static let alphanumeric = Set(UInt8(ascii: "a")...UInt8(ascii: "z"))
        .union(UInt8(ascii: "A")...UInt8(ascii: "Z")).union(UInt8(ascii: "0")...UInt8(ascii: "9"))
    private static let inName = alphanumeric.union("._-".utf8)

    /// An artifact's name, safe as a folder and a part of an address.
    static func name(_ text: String?) throws -> String {
        try checked(text, "name") { isName($0) }
    }

    /// An artifact's version; `latest` is the pointer of a store.
    static func version(_ text: String?) throws -> String {
        try checked(text, "version") { text in
            let parts = text.split(separator: UInt8(ascii: "+"), maxSplits: 1, omittingEmptySubsequences: false)
            return isName(Array(parts[0])) && (parts.count < 2 || isWord(parts[1], inName, 39, last: "_-"))
        }
    }

    /// A channel: lower-case letters, digits and dashes.
    static func channel(_ text: String?) throws -> String {
        try checked(text, "channel") { text in
            guard let first = text.first, (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(first) else { return false }
            let allowed = { (byte: UInt8) in
                !(UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) && byte != UInt8(ascii: ".")
                    && byte != UInt8(ascii: "_") && inName.contains(byte)
            }
            return text.count <= 32 && text.allSatisfy(allowed) && isFree(text)
        }
    }

    /// Refuses a list of files that would not unpack in the same way on every system.
    static func checkPaths(_ paths: [String]) throws {
        var spelled: [String: String] = [:]
        var folders: Set<String> = [], files: Set<String> = []
        for path in paths {
            let parts = try parts(of: path)
            guard files.insert(path).inserted else {
                throw ASRRefused(.duplicatePath, "\(shown(path)) is listed twice")
            }
            for depth in 1...parts.count {
                let prefix = parts[..<depth].joined(separator: "/")
                let before = spelled[prefix.lowercased(), default: prefix]
                spelled[prefix.lowercased()] = before
                guard before == prefix else {
                    throw ASRRefused(.caseClash, "\(shown(prefix)) and \(shown(before)) are one file on some systems")
                }
                if depth < parts.count { folders.insert(prefix) }
            }
        }
        if let both = folders.intersection(files).sorted().first {
            throw ASRRefused(.pathConflict, "\(shown(both)) is both a file and a folder")
        }
        guard paths == paths.sorted() else { throw ASRRefused(.unsorted, "the files are not listed in order") }
    }

    /// Whether this is a SHA-256 in lower-case hexadecimal digits.
    static func isDigest(_ text: String?) -> Bool {
        guard let bytes = text?.utf8, bytes.count == 64 else { return false }
        return bytes.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    /// Whether this is printable ASCII without a space, as a remote's identity is.
    static func isIdentity(_ text: String?) -> Bool {
        guard let bytes = text?.utf8, (1...500).contains(bytes.count) else { return false }
        return bytes.allSatisfy { (0x21...0x7e).contains($0) }
    }

    /// Whether this is a word that a person is shown: letters, digits and `_.+-`.
    static func isShownWord(_ text: String?) -> Bool {
        guard let bytes = text?.utf8, (1...100).contains(bytes.count) else { return false }
        let allowed = inName.union("+".utf8)
        return bytes.allSatisfy { allowed.contains($0) }
    }

    /// Whether this is a system's version: one to three numbers of at most three digits.
    static func isSystemVersion(_ text: String?) -> Bool {
        guard let text = text, text.utf8.count <= 11 else { return false }
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count <= 3 && parts.allSatisfy { part in
            (1...3).contains(part.count) && part.allSatisfy { (0x30...0x39).contains($0) }
        }
    }

    private static func checked(_ text: String?, _ what: String, _ isValid: ([UInt8]) -> Bool) throws -> String {
        // By bytes: Strings of other bytes may be equal.
        guard let text = text, isValid(Array(text.utf8)) else {
            throw ASRRefused(.unsafeName, "\(shown(text)) cannot be a \(what)")
        }
        return text
    }

    private static func isName(_ text: [UInt8]) -> Bool {
        guard let first = text.first, alphanumeric.contains(first) else { return false }
        return isWord(text[...], inName, 80, last: "_-") && isFree(text)
    }

    private static func isFree(_ text: [UInt8]) -> Bool {
        let word = String(decoding: text, as: UTF8.self)
        return word != "latest" && !devices.contains(word.prefix { $0 != "." }.lowercased())
    }

    /// Whether all bytes are allowed, and the last one is a letter, a digit or one of `last`.
    private static func isWord(_ text: ArraySlice<UInt8>, _ allowed: Set<UInt8>, _ most: Int, last: String) -> Bool {
        guard let end = text.last, text.count <= most else { return false }
        return text.allSatisfy(allowed.contains) && alphanumeric.union(last.utf8).contains(end)
    }

    private static func parts(of path: String) throws -> [String] {
        let bytes = Array(path.utf8)
        let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let allowed = inName.union(" +@(),=".utf8)
        for part in parts {
            let stem = String(decoding: part.prefix { $0 != UInt8(ascii: ".") }, as: UTF8.self)
            let trimmed = stem.reversed().drop { $0 == " " }.reversed()
            guard
                let first = part.first, alphanumeric.contains(first) || first == UInt8(ascii: "_"),
                isWord(part, allowed, 127, last: "_+@()=-"), !devices.contains(String(trimmed).lowercased())
            else { throw ASRRefused(.unsafePath, "the path \(shown(path)) is not relative, plain and portable") }
        }
        guard bytes.count <= 512, parts.count <= 16 else {
            throw ASRRefused(.unsafePath, "the path \(shown(path)) is too long or too deep")
        }
        return parts.map { String(decoding: $0, as: UTF8.self) }
    }
}
