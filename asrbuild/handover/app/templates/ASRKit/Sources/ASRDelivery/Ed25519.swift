import Foundation

#if canImport(CryptoKit)
import CryptoKit

/// Ed25519 (RFC 8032) by the system's own implementation.
enum Ed25519 {
    /// Whether the holder of a key of 32 bytes signed a message.
    static func isValid(_ signature: Data, of message: Data, by key: Data) throws -> Bool {
        let key = try? Curve25519.Signing.PublicKey(rawRepresentation: key)
        return key?.isValidSignature(signature, for: message) ?? false
    }
}
#else
/// Ed25519 (RFC 8032) by OpenSSL's libcrypto, which is looked up when it is first needed.
enum Ed25519 {
    private typealias MakeKey = @convention(c) (CInt, OpaquePointer?, UnsafePointer<UInt8>?, Int) -> OpaquePointer?
    private typealias Make = @convention(c) () -> OpaquePointer?
    private typealias Free = @convention(c) (OpaquePointer?) -> Void
    private typealias Start = @convention(c) (
        OpaquePointer?, OpaquePointer?, OpaquePointer?, OpaquePointer?, OpaquePointer?
    ) -> CInt
    private typealias Verify = @convention(c) (
        OpaquePointer?, UnsafePointer<UInt8>?, Int, UnsafePointer<UInt8>?, Int
    ) -> CInt

    private struct Library: @unchecked Sendable {
        let makeKey: MakeKey, freeKey: Free, make: Make, free: Free, start: Start, verify: Verify

        init?(_ name: String) {
            guard
                let library = dlopen(name, RTLD_NOW), let makeKey = dlsym(library, "EVP_PKEY_new_raw_public_key"),
                let freeKey = dlsym(library, "EVP_PKEY_free"), let make = dlsym(library, "EVP_MD_CTX_new"),
                let free = dlsym(library, "EVP_MD_CTX_free"), let start = dlsym(library, "EVP_DigestVerifyInit"),
                let verify = dlsym(library, "EVP_DigestVerify")
            else { return nil }
            self.makeKey = unsafeBitCast(makeKey, to: MakeKey.self)
            self.freeKey = unsafeBitCast(freeKey, to: Free.self)
            self.make = unsafeBitCast(make, to: Make.self)
            self.free = unsafeBitCast(free, to: Free.self)
            self.start = unsafeBitCast(start, to: Start.self)
            self.verify = unsafeBitCast(verify, to: Verify.self)
        }
    }

    private static let library = ["libcrypto.so.3", "libcrypto.so.1.1"].lazy.compactMap { Library($0) }.first
    /// `EVP_PKEY_ED25519` of OpenSSL's obj_mac.h.
    private static let kind: CInt = 1087

    /// Whether the holder of a key of 32 bytes signed a message.
    ///
    /// - Throws: `ASRDeliveryError.noCryptography`.
    static func isValid(_ signature: Data, of message: Data, by key: Data) throws -> Bool {
        guard let library = library else { throw ASRDeliveryError.noCryptography }
        let (signature, message, bytes) = ([UInt8](signature), [UInt8](message), [UInt8](key))
        guard let key = library.makeKey(kind, nil, bytes, bytes.count) else { return false }
        defer { library.freeKey(key) }
        guard let context = library.make() else { throw ASRDeliveryError.noCryptography }
        defer { library.free(context) }
        guard library.start(context, nil, nil, nil, key) == 1 else { return false }
        return library.verify(context, signature, signature.count, message, message.count) == 1
    }
}
#endif
