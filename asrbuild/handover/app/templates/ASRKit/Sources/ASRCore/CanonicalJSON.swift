/// A JSON value with one spelling: keys sorted by code points, no spaces, ASCII, `1.0` as `1`.
///
/// Signed content is spelled so, and content digests are made of it: asrbuild's `canonical_json`
/// gives the same bytes.
package enum CanonicalJSON: Equatable, Sendable {
    case null
    case bool(Bool)
    /// A number in its one spelling; a whole one has neither a dot nor an exponent.
    case number(String)
    case string(String)
    case array([CanonicalJSON])
    case object([String: CanonicalJSON])

    /// The bytes are not JSON, nest deeper than 128 values, or are spelled otherwise.
    package struct Malformed: Error {}

    /// Reads JSON.
    ///
    /// - Parameter canonical: the bytes must be in the one spelling; else any JSON in UTF-8 is read.
    /// - Throws: `Malformed`.
    package init<Bytes: Sequence>(_ bytes: Bytes, canonical: Bool) throws where Bytes.Element == UInt8 {
        var parser = Parser(bytes: Array(bytes), canonical: canonical)
        self = try parser.document()
    }

    /// The one spelling.
    package var spelled: String {
        switch self {
        case .null: return "null"
        case .bool(let value): return value ? "true" : "false"
        case .number(let text): return text
        case .string(let text): return Self.quoted(text)
        case .array(let values): return "[" + values.map(\.spelled).joined(separator: ",") + "]"
        case .object(let values):
            // UTF-8 sorts as code points do; String's own order is another.
            let sorted = values.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
            return "{" + sorted.map { Self.quoted($0.key) + ":" + $0.value.spelled }.joined(separator: ",") + "}"
        }
    }

    /// By spelling: Strings of other bytes may be equal.
    package static func == (one: CanonicalJSON, other: CanonicalJSON) -> Bool { one.spelled == other.spelled }

    package var string: String? {
        if case .string(let value) = self { return value }
        return nil
    }

    /// A whole number, nil also where it does not fit.
    package var integer: Int? {
        if case .number(let text) = self { return Int(text) }
        return nil
    }

    package var array: [CanonicalJSON]? {
        if case .array(let values) = self { return values }
        return nil
    }

    package var object: [String: CanonicalJSON]? {
        if case .object(let values) = self { return values }
        return nil
    }

    /// The value of a key; nil if this is not an object or lacks the key.
    package subscript(key: String) -> CanonicalJSON? { object?[key] }

    /// The object without some keys; any other value as it is.
    package func without(_ keys: String...) -> CanonicalJSON {
        guard case .object(let values) = self else { return self }
        return .object(values.filter { !keys.contains($0.key) })
    }

    private static let escapes: [Unicode.Scalar: String] = [
        "\"": "\\\"", "\\": "\\\\", "\u{8}": "\\b", "\u{c}": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    ]

    private static func quoted(_ text: String) -> String {
        var made = "\""
        for scalar in text.unicodeScalars {
            if let escape = escapes[scalar] {
                made += escape
            } else if (0x20..<0x7f).contains(scalar.value) {
                made.unicodeScalars.append(scalar)
            } else {
                for unit in Character(scalar).utf16 {
                    let digits = String(unit, radix: 16)
                    made += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            }
        }
        return made + "\""
    }

    /// A number as Python writes it: of the shortest digits, with an exponent below 1e-4 and from 1e16 on.
    static func spelled(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 9_007_199_254_740_992 { return String(Int(value)) }
        let parts = "\(abs(value))".split(separator: "e")
        let halves = parts[0].split(separator: ".")
        var digits = Substring(halves.joined())
        // The value is 0.DIGITS * 10^point.
        var point = halves[0].count + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
        while digits.first == "0" { (digits, point) = (digits.dropFirst(), point - 1) }
        while digits.last == "0" { digits = digits.dropLast() }
        let sign = value < 0 ? "-" : ""
        if point < -3 || point > 16 {
            let power = abs(point - 1)
            let fraction = digits.count > 1 ? ".\(digits.dropFirst())" : ""
            return "\(sign)\(digits.prefix(1))\(fraction)e\(point < 1 ? "-" : "+")\(power < 10 ? "0" : "")\(power)"
        }
        if point <= 0 { return "\(sign)0.\(String(repeating: "0", count: -point))\(digits)" }
        if point >= digits.count {
            return "\(sign)\(digits)\(String(repeating: "0", count: point - digits.count)).0"
        }
        return "\(sign)\(digits.prefix(point)).\(digits.dropFirst(point))"
    }
}

extension CanonicalJSON {
    private struct Parser {
        let bytes: [UInt8]
        let canonical: Bool
        private var at = 0

        init(bytes: [UInt8], canonical: Bool) {
            self.bytes = bytes
            self.canonical = canonical
        }

        mutating func document() throws -> CanonicalJSON {
            let value = try value(depth: 0)
            skipSpace()
            guard at == bytes.count else { throw Malformed() }
            return value
        }

        private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

        private mutating func skipSpace() {
            while !canonical, let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { at += 1 }
        }

        private mutating func takes(_ byte: Character) -> Bool {
            skipSpace()
            guard next == byte.asciiValue else { return false }
            at += 1
            return true
        }

        private mutating func word(_ text: String, _ value: CanonicalJSON) throws -> CanonicalJSON {
            guard bytes[at...].starts(with: text.utf8) else { throw Malformed() }
            at += text.utf8.count
            return value
        }

        private mutating func value(depth: Int) throws -> CanonicalJSON {
            guard depth < 128 else { throw Malformed() }
            if takes("{") { return try object(depth + 1) }
            if takes("[") { return try array(depth + 1) }
            if takes("\"") { return .string(String(decoding: try string(), as: UTF8.self)) }
            switch next {
            case UInt8(ascii: "n"): return try word("null", .null)
            case UInt8(ascii: "t"): return try word("true", .bool(true))
            case UInt8(ascii: "f"): return try word("false", .bool(false))
            default: return .number(try number())
            }
        }

        private mutating func array(_ depth: Int) throws -> CanonicalJSON {
            var values: [CanonicalJSON] = []
            if takes("]") { return .array(values) }
            repeat { values.append(try value(depth: depth)) } while takes(",")
            guard takes("]") else { throw Malformed() }
            return .array(values)
        }

        private mutating func object(_ depth: Int) throws -> CanonicalJSON {
            var values: [String: CanonicalJSON] = [:]
            var before: [UInt8]?
            if takes("}") { return .object(values) }
            repeat {
                guard takes("\"") else { throw Malformed() }
                let key = try string()
                if canonical, let before, !before.lexicographicallyPrecedes(key) { throw Malformed() }
                before = key
                guard takes(":") else { throw Malformed() }
                values[String(decoding: key, as: UTF8.self)] = try value(depth: depth)
            } while takes(",")
            guard takes("}") else { throw Malformed() }
            return .object(values)
        }

        /// A string's bytes after its first quote; half of a surrogate pair has the three bytes that
        /// UTF-8 would give it, so that keys with one are in order.
        private mutating func string() throws -> [UInt8] {
            var text: [UInt8] = []
            while let byte = next {
                at += 1
                switch byte {
                case UInt8(ascii: "\""): return text
                case UInt8(ascii: "\\"): try escape(into: &text)
                case 0x20..<0x7f: text.append(byte)
                case 0x7f... where !canonical: text.append(byte)
                default: throw Malformed()
                }
            }
            throw Malformed()
        }

        private mutating func escape(into text: inout [UInt8]) throws {
            guard let byte = next else { throw Malformed() }
            at += 1
            if let short = CanonicalJSON.escapes.first(where: { $0.value.utf8.last == byte })?.key {
                text.append(UInt8(short.value))
                return
            }
            if byte == UInt8(ascii: "/"), !canonical {
                text.append(byte)
                return
            }
            guard byte == UInt8(ascii: "u") else { throw Malformed() }
            var code = try unit()
            if canonical, (0x20..<0x7f).contains(code) || Self.hasShort(code) { throw Malformed() }
            if (0xd800..<0xdc00).contains(code), bytes[at...].starts(with: [0x5c, 0x75]) {
                let start = at
                at += 2
                let low = try unit()
                if (0xdc00..<0xe000).contains(low) {
                    code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
                } else {
                    at = start
                }
            }
            switch code {
            case ..<0x80: text.append(UInt8(code))
            case ..<0x800: text += [0xc0 | UInt8(code >> 6), 0x80 | UInt8(code & 0x3f)]
            case ..<0x10000:
                text += [0xe0 | UInt8(code >> 12), 0x80 | UInt8(code >> 6 & 0x3f), 0x80 | UInt8(code & 0x3f)]
            default:
                text += [0xf0 | UInt8(code >> 18), 0x80 | UInt8(code >> 12 & 0x3f)]
                text += [0x80 | UInt8(code >> 6 & 0x3f), 0x80 | UInt8(code & 0x3f)]
            }
        }

        private static func hasShort(_ code: UInt32) -> Bool {
            Unicode.Scalar(code).map { CanonicalJSON.escapes[$0] != nil } ?? false
        }

        private mutating func unit() throws -> UInt32 {
            guard at + 4 <= bytes.count else { throw Malformed() }
            var code: UInt32 = 0
            for byte in bytes[at..<at + 4] {
                switch byte {
                case 0x30...0x39: code = code << 4 | UInt32(byte - 0x30)
                case 0x61...0x66: code = code << 4 | UInt32(byte - 0x57)
                case 0x41...0x46 where !canonical: code = code << 4 | UInt32(byte - 0x37)
                default: throw Malformed()
                }
            }
            at += 4
            return code
        }

        private mutating func digits() throws {
            let start = at
            while let byte = next, (0x30...0x39).contains(byte) { at += 1 }
            guard at > start else { throw Malformed() }
        }

        /// A number in its one spelling.
        private mutating func number() throws -> String {
            let start = at
            if next == UInt8(ascii: "-") { at += 1 }
            let whole = at
            try digits()
            guard bytes[whole] != UInt8(ascii: "0") || at == whole + 1 else { throw Malformed() }
            var isWhole = true
            if next == UInt8(ascii: ".") {
                (isWhole, at) = (false, at + 1)
                try digits()
            }
            if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
                (isWhole, at) = (false, at + 1)
                if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
                try digits()
            }
            let text = String(decoding: bytes[start..<at], as: UTF8.self)
            // Python reads no longer whole numbers.
            guard !isWhole || at - whole <= 4300 else { throw Malformed() }
            var made = text == "-0" ? "0" : text
            if !isWhole {
                guard let value = Double(text), value.isFinite else { throw Malformed() }
                made = CanonicalJSON.spelled(value)
            }
            guard !canonical || made == text else { throw Malformed() }
            return made
        }
    }
}
