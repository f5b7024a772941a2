import Foundation

/// The reasons for which asrbuild and this module refuse content; `docs/bundle-format.md` lists them.
public enum ASRRefusal: String, CaseIterable, Sendable {
    /// Not a plain file, or other first bytes.
    case notABundle = "NOT_A_BUNDLE"
    /// Another format, or a set within a set.
    case unknownFormat = "UNKNOWN_FORMAT"
    /// Shorter than its header requires.
    case truncated = "TRUNCATED"
    /// Longer than its header requires.
    case trailingBytes = "TRAILING_BYTES"
    /// A header, record or statement beyond its limit.
    case headerTooLarge = "HEADER_TOO_LARGE"
    /// A header that is not canonical JSON of the format.
    case headerMalformed = "HEADER_MALFORMED"
    /// More files or variants than a limit.
    case tooManyFiles = "TOO_MANY_FILES"
    /// More bytes than a limit, or than were signed.
    case tooLarge = "TOO_LARGE"
    /// A name, version or channel that is not plain and portable.
    case unsafeName = "UNSAFE_NAME"
    /// A path that is not plain and portable.
    case unsafePath = "UNSAFE_PATH"
    /// A file or an artifact that is listed twice.
    case duplicatePath = "DUPLICATE_PATH"
    /// Two paths that differ in case alone.
    case caseClash = "CASE_CLASH"
    /// A path that is another's folder.
    case pathConflict = "PATH_CONFLICT"
    /// Files that are not listed in order.
    case unsorted = "UNSORTED"
    /// A file that is not listed, or that the remote lacks.
    case fileMissing = "FILE_MISSING"
    /// No signature at all.
    case notSigned = "NOT_SIGNED"
    /// Signed only by keys that the app does not trust, or only through Sigstore.
    case untrustedSigner = "UNTRUSTED_SIGNER"
    /// A trusted key's signature that does not match the content.
    case badSignature = "BAD_SIGNATURE"
    /// A signed statement that does not match the header.
    case statementMismatch = "STATEMENT_MISMATCH"
    /// A content that does not match its digest.
    case digestMismatch = "DIGEST_MISMATCH"
    /// A manifest that contradicts its header or variant.
    case manifestMismatch = "MANIFEST_MISMATCH"
    /// A name, version or place that contradicts what was signed.
    case identityMismatch = "IDENTITY_MISMATCH"
    /// A malformed record of a channel.
    case recordMalformed = "RECORD_MALFORMED"
    /// A channel that lacks a record that this app saw before.
    case replayed = "REPLAYED"
    /// A channel with another record than this app saw before, or a broken chain.
    case forked = "FORKED"
    /// An expiry is required, and the record has none or has expired.
    case expired = "EXPIRED"
    /// A server that sends below 64 KiB/s for longer than a minute.
    case tooSlow = "TOO_SLOW"
}

/// Content was refused, and none of it was kept.
public struct ASRRefused: Error, Equatable, LocalizedError {
    /// Why.
    public let reason: ASRRefusal
    /// The fault, for a developer.
    public let message: String

    init(_ reason: ASRRefusal, _ message: String) {
        self.reason = reason
        self.message = message
    }

    /// The refusal in a sentence.
    public var errorDescription: String? { "refused (\(reason.rawValue)): \(message)" }
}

/// A failure of a delivery that is not a refusal.
public enum ASRDeliveryError: Error, Equatable, LocalizedError {
    /// A key is not an Ed25519 public key, or is one for which anyone can forge signatures.
    case badKey(String)
    /// The server did not answer, or with another status than was expected: try again later.
    case server(String)
    /// There is no such channel, artifact or file.
    case notFound(String)
    /// No variant runs on this system or is small enough.
    case doesNotRun(String)
    /// The record of the channels is unreadable, so a rollback could not be detected.
    case stateUnreadable(String)
    /// Signatures cannot be checked: outside of Apple's systems this takes OpenSSL's libcrypto.
    case noCryptography

    /// The error in a sentence.
    public var errorDescription: String? {
        switch self {
        case .badKey(let what): return "this is not a key to trust: \(what)"
        case .server(let what): return what
        case .notFound(let what): return "there is no \(what)"
        case .doesNotRun(let what): return "nothing here runs on \(what)"
        case .stateUnreadable(let what):
            return "what was seen of the channels cannot be read (\(what)); without it, old states are not noticed"
        case .noCryptography: return "signatures cannot be checked: there is no libcrypto"
        }
    }
}

/// Foreign text for a message: ASCII, at most 80 characters.
func shown(_ text: String?) -> String {
    let ascii = (text ?? "null").unicodeScalars.map { (0x20..<0x7f).contains($0.value) ? String($0) : "?" }.joined()
    return ascii.count <= 80 ? ascii : ascii.prefix(77) + "..."
}
