import Foundation
import XCTest

@testable import ASRCore
@testable import ASRDelivery

/// Tests of the parts of delivery: one spelling of JSON, names, keys and signatures. asrbuild's own
/// tests ship artifacts and attack the reader.
final class DeliveryTests: XCTestCase {
    func testNumbersAreSpelledAsPythonSpellsThem() throws {
        let spelled: [(String, String)] = [
            ("1.0", "1"), ("-0.0", "0"), ("-0", "0"), ("1e5", "100000"), ("0.1", "0.1"), ("1e-4", "0.0001"),
            ("0.00001", "1e-05"), ("1.5e-7", "1.5e-07"), ("123456789.125", "123456789.125"),
            ("9007199254740992.0", "9007199254740992.0"), ("1e16", "1e+16"), ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"), ("-2.5", "-2.5"), ("12345678901234567890123", "12345678901234567890123"),
            ("0.30000000000000004", "0.30000000000000004"), ("123456789012345680.0", "1.2345678901234568e+17"),
        ]
        for (given, expected) in spelled {
            XCTAssertEqual(try CanonicalJSON(Array(given.utf8), canonical: false).spelled, expected)
            XCTAssertEqual(try? CanonicalJSON(Array(given.utf8), canonical: true).spelled, given == expected ? given : nil)
        }
    }

    func testJSONHasOneSpelling() throws {
        let given = #"{ "b": [1, 2.50, true, null], "a\u00e9": "\u00e9\/\ud83d\ude00\n", "B": {} }"#
        let canonical = #"{"B":{},"a\u00e9":"\u00e9/\ud83d\ude00\n","b":[1,2.5,true,null]}"#
        XCTAssertEqual(try CanonicalJSON(Array(given.utf8), canonical: false).spelled, canonical)
        XCTAssertEqual(try CanonicalJSON(Array(canonical.utf8), canonical: true).spelled, canonical)
        let raw = try CanonicalJSON(Array("\"é😀\"".utf8), canonical: false)
        XCTAssertEqual(raw.spelled, #""\u00e9\ud83d\ude00""#)
        // Of two keys the one with the smaller code points is first, whatever its letters' UTF-16 units are.
        let keys = #"{"\uff21":1,"\ud83d\ude00":2}"#
        XCTAssertEqual(try CanonicalJSON(Array(keys.utf8), canonical: true).spelled, keys)
        for other in [
            "", "{", "[1,]", "{\"a\":1,}", "{\"b\":1,\"a\":2}", "{\"a\":1,\"a\":1}", "[1 ]", "\"\\u0041\"", "\"\\u00E9\"",
            "\"\\/\"", "\"\\u000a\"", "\"é\"", "01", "+1", "1.", ".5", "1E5", "NaN", "1e400", "nul", "1 2", "\"a", "\u{feff}1",
            String(repeating: "[", count: 200) + String(repeating: "]", count: 200),
        ] {
            XCTAssertThrowsError(try CanonicalJSON(Array(other.utf8), canonical: true), other)
        }
    }

    func testDigestsOfAnyPiecesAreThoseOfTheWhole() {
        // FIPS 180-4's examples, the last a million times the letter a.
        XCTAssertEqual(
            ASRCore.SHA256.hex("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )
        let million = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
        XCTAssertEqual(
            digest(of: million, in: 1000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        )
        let bytes = (0..<300).map { UInt8($0 % 251) }
        for size in 1...300 { XCTAssertEqual(digest(of: bytes, in: size), ASRCore.SHA256.hex(bytes)) }
    }

    private func digest(of bytes: [UInt8], in size: Int) -> String {
        var digest = ASRCore.SHA256()
        for start in stride(from: 0, to: bytes.count, by: size) {
            digest.update(Array(bytes[start..<min(start + size, bytes.count)]))
        }
        return digest.finish()
    }

    func testSignaturesAreThoseOfTheStandard() throws {
        // RFC 8032, 7.1, test 3.
        let key = data("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
        let signature = data(
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                + "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        )
        let message = data("af82")
        XCTAssertTrue(try Ed25519.isValid(signature, of: message, by: key))
        for bit in [0, 255, 256, 511] {
            var other = signature
            other[bit / 8] ^= 1 << (bit % 8)
            XCTAssertFalse(try Ed25519.isValid(other, of: message, by: key))
        }
        XCTAssertFalse(try Ed25519.isValid(signature, of: Data([0xaf, 0x83]), by: key))
        XCTAssertFalse(try Ed25519.isValid(signature.dropLast(), of: message, by: key))
        XCTAssertFalse(try Ed25519.isValid(Data(), of: message, by: key))
        XCTAssertFalse(try Ed25519.isValid(signature, of: message, by: key.dropLast()))
    }

    func testKeysAreReadFromTheirFiles() throws {
        let pem = """
            # publisher
            -----BEGIN PUBLIC KEY-----
            MCowBQYDK2VwAyEA/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=
            -----END PUBLIC KEY-----
            """
        let key = try ASRPublicKey(pem: pem)
        XCTAssertEqual(key.label, "publisher")
        XCTAssertEqual(key.id, ASRCore.SHA256.hex(data("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")))
        for other in ["", "# a", pem.replacingOccurrences(of: "MCow", with: "MCoW"), pem.replacingOccurrences(of: "PUBLIC", with: "PRIVATE")] {
            XCTAssertThrowsError(try ASRPublicKey(pem: other))
        }
        // Of a point of small order anyone can forge signatures; its sign does not matter.
        for last in [0, 0x80] as [UInt8] {
            XCTAssertThrowsError(try ASRPublicKey(raw: Data([1] + [UInt8](repeating: 0, count: 30) + [last])))
        }
        XCTAssertThrowsError(try ASRPublicKey(raw: Data(count: 31)))
    }

    func testASlowServerIsGivenUp() throws {
        var clock = 0.0
        let arrival = Arrival(65_536 * 10, now: { clock })
        for place in 0..<6 {
            clock += 10
            try arrival.admit(1, at: place)
        }
        clock = 71
        XCTAssertThrowsError(try arrival.admit(1, at: 6)) { error in
            XCTAssertEqual((error as? ASRRefused)?.reason, .tooSlow)
        }
        // A gap, and a new beginning.
        let again = Arrival(10, held: 5)
        XCTAssertThrowsError(try again.admit(1, at: 6))
        XCTAssertNoThrow(try again.admit(10, at: 0))
        XCTAssertThrowsError(try again.admit(1, at: 10)) { error in
            XCTAssertEqual((error as? ASRRefused)?.reason, .tooLarge)
        }
    }

    private func data(_ hex: String) -> Data {
        Data(stride(from: 0, to: hex.count, by: 2).compactMap { UInt8(hex.dropFirst($0).prefix(2), radix: 16) })
    }
}
