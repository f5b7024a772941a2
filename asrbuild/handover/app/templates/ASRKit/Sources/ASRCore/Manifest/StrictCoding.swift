/// The fields of one section, read as strictly as asrbuild reads them: no unknown key, no missing
/// key, and `null` only where the schema allows it.
///
/// With `ignoresUnknownKeys` in the decoder's `userInfo`, keys that the schema does not know are
/// ignored: a newer minor version added them.
struct StrictFields<Key: CodingKey & CaseIterable> {
    private let container: KeyedDecodingContainer<Key>

    /// - Parameter passing: keys of the schema that a device does not read.
    init(_ decoder: any Swift.Decoder, passing: [String] = []) throws {
        let ignores = decoder.userInfo[.ignoresUnknownKeys] as? Bool ?? false
        let known = Set(Key.allCases.map(\.stringValue) + passing)
        let given = try decoder.container(keyedBy: AnyKey.self).allKeys.map(\.stringValue)
        if !ignores, let stray = given.sorted().first(where: { !known.contains($0) }) {
            throw DecodingError.dataCorrupted(
                DecodingError.Context(
                    codingPath: decoder.codingPath,
                    debugDescription: "the schema has no key \"\(stray)\""
                )
            )
        }
        container = try decoder.container(keyedBy: Key.self)
    }

    func value<Value: Decodable>(_ key: Key) throws -> Value {
        try container.decode(Value.self, forKey: key)
    }

    func nullable<Value: Decodable>(_ key: Key) throws -> Value? {
        guard container.contains(key) else {
            throw DecodingError.keyNotFound(
                key,
                DecodingError.Context(
                    codingPath: container.codingPath,
                    debugDescription: "null must be written out"
                )
            )
        }
        return try container.decodeIfPresent(Value.self, forKey: key)
    }

    /// A key that a version added: absent from an older one.
    func optional<Value: Decodable>(_ key: Key) throws -> Value? {
        try container.decodeIfPresent(Value.self, forKey: key)
    }
}

extension CodingUserInfoKey {
    static let ignoresUnknownKeys = CodingUserInfoKey(rawValue: "ASRKit.ignoresUnknownKeys")!
}

private struct AnyKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

/// Any JSON, for the parts of the manifest that an app only shows or keeps.
public enum ASRJSON: Codable, Equatable, Sendable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number.
    case number(Double)
    /// A text.
    case string(String)
    /// A list.
    case array([ASRJSON])
    /// Keys with values.
    case object([String: ASRJSON])

    /// Reads any JSON.
    public init(from decoder: any Swift.Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([ASRJSON].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: ASRJSON].self))
        }
    }

    /// Writes it again.
    public func encode(to encoder: any Swift.Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}
