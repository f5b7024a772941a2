import ASRCore
import Foundation

/// A DSSE envelope (https://github.com/secure-systems-lab/dsse): a signed payload and its signatures.
struct Envelope: Sendable {
    let type: String
    let payload: Data
    private let signatures: [(keyid: String, sig: String)]
    private let hasSigstore: Bool

    /// Checks the shape alone.
    init(_ value: CanonicalJSON?, type: String, malformed: ASRRefusal) throws {
        let fields = value?.object ?? [:]
        let listed = fields["signatures"]?.array
        let signatures = (listed ?? []).compactMap { one -> (keyid: String, sig: String)? in
            guard let keyid = one["keyid"]?.string, let sig = one["sig"]?.string, one.object?.count == 2 else { return nil }
            return (keyid, sig)
        }
        let sigstore = fields["sigstore"]
        guard
            Set(fields.keys).subtracting(["sigstore"]) == ["payload", "payloadType", "signatures"],
            sigstore == nil || sigstore?.object != nil, let text = fields["payload"]?.string,
            let listed = listed, listed.count <= 16, signatures.count == listed.count
        else { throw ASRRefused(malformed, "the signed envelope is not a DSSE envelope") }
        guard fields["payloadType"] == .string(type) else {
            throw ASRRefused(malformed, "the envelope holds \(shown(fields["payloadType"]?.string)), not \(type)")
        }
        guard sigstore?.spelled.utf8.count ?? 0 <= 32 << 10 else {
            throw ASRRefused(.headerTooLarge, "its Sigstore bundle is larger than 32 KiB")
        }
        guard let payload = Self.decoded(text) else {
            throw ASRRefused(malformed, "the signed envelope is not canonical base64")
        }
        self.type = type
        self.payload = payload
        self.signatures = signatures
        hasSigstore = sigstore != nil
    }

    /// The payload's JSON, which is canonical.
    func json(_ malformed: ASRRefusal, most: Int = Header.maxBytes) throws -> CanonicalJSON {
        try strict(payload, most, malformed)
    }

    /// Every trusted key that signed the payload; one at least.
    ///
    /// A signature that names a trusted key and is invalid is refused, even if others are valid.
    func signers(_ trust: Trust) throws -> [ASRPublicKey] {
        guard !signatures.isEmpty || hasSigstore else { throw ASRRefused(.notSigned, "it carries no signature") }
        // DSSE's pre-authentication encoding: the signed bytes name their own type and length.
        var message = Data("DSSEv1 \(type.utf8.count) \(type) \(payload.count) ".utf8)
        message.append(payload)
        var found: [ASRPublicKey] = []
        for one in signatures {
            guard let key = trust[one.keyid] else { continue }
            let signature = Self.decoded(one.sig) ?? Data()
            guard try Ed25519.isValid(signature, of: message, by: key.raw) else {
                throw ASRRefused(.badSignature, "the signature of \(key.label) does not match the content")
            }
            found.append(key)
        }
        if found.isEmpty {
            let ids = signatures.map { "the key \(shown(String($0.keyid.prefix(12))))" }
            let sigstore = hasSigstore ? ["an identity through Sigstore, which an app does not check"] : []
            throw ASRRefused(.untrustedSigner, "it is signed only by \((ids + sigstore).joined(separator: ", "))")
        }
        return found
    }

    /// Base64 in its one spelling.
    static func decoded(_ text: String) -> Data? {
        guard let data = Data(base64Encoded: text), data.base64EncodedString() == text else { return nil }
        return data
    }
}

/// Foreign JSON in its canonical spelling.
func strict(_ bytes: Data, _ most: Int, _ malformed: ASRRefusal) throws -> CanonicalJSON {
    guard bytes.count <= most else {
        throw ASRRefused(.headerTooLarge, "it has \(bytes.count) bytes, at most \(most) are read")
    }
    do { return try CanonicalJSON(bytes, canonical: true) } catch {
        throw ASRRefused(malformed, "it is not JSON in its canonical spelling")
    }
}
