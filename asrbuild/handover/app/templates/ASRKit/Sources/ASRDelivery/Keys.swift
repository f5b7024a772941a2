import ASRCore
import Foundation

/// A publisher's public Ed25519 key, which an app is built with.
public struct ASRPublicKey: Hashable, Sendable {
    /// Its id: SHA-256 of the raw key, in hexadecimal digits.
    public let id: String
    /// The publisher's name for it.
    public let label: String
    let raw: Data

    /// A key as `asrbuild key new` writes it to a `.pub` file.
    ///
    /// - Throws: `ASRDeliveryError.badKey`.
    public init(pem: String) throws {
        let lines = pem.split(whereSeparator: \.isNewline).map(String.init)
        let body = lines.filter { !$0.hasPrefix("-----") && !$0.hasPrefix("#") }.joined()
        // SubjectPublicKeyInfo of RFC 8410: this head, and the key.
        let head: [UInt8] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]
        guard pem.contains("BEGIN PUBLIC KEY"), let der = Data(base64Encoded: body), der.starts(with: head) else {
            throw ASRDeliveryError.badKey("it is not an Ed25519 public key in PEM form")
        }
        let label = lines.first { $0.hasPrefix("# ") }.map { String($0.dropFirst(2)) }
        try self.init(raw: Data(der.dropFirst(head.count)), label: label)
    }

    /// A key of 32 bytes.
    ///
    /// - Throws: `ASRDeliveryError.badKey`.
    public init(raw: Data, label: String? = nil) throws {
        guard raw.count == 32 else { throw ASRDeliveryError.badKey("it has \(raw.count) bytes, not 32") }
        let point = raw.enumerated().map { String($0 == 31 ? $1 & 0x7f : $1, radix: 16) }
        guard !Self.smallOrder.contains(point.map { $0.count == 1 ? "0\($0)" : $0 }.joined()) else {
            throw ASRDeliveryError.badKey("anyone can forge signatures of a point of small order")
        }
        self.raw = raw
        id = SHA256.hex(raw)
        self.label = label ?? String(id.prefix(12))
    }

    /// y coordinates of points of small order, little-endian, without the sign bit
    /// (https://github.com/jedisct1/libsodium, `ge25519_has_small_order`).
    private static let smallOrder: Set<String> = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ]
}

/// Trusted keys by their ids.
typealias Trust = [String: ASRPublicKey]
