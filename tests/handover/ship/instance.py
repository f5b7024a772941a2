"""A Sigstore instance on loopback, for the genuine client.

It is an identity provider (OpenID Connect), a certificate authority (Fulcio's API), a certificate
transparency log, a log of signatures (Rekor's API, version 1 or 2; a Merkle tree as in RFC 6962)
and, where OpenSSL is installed, a timestamp authority (RFC 3161). The library that signs and
verifies uses this instance through a client trust config, like any private one. Node's
``@sigstore/mock`` speaks another dialect: it expects the identity token in the request's body, not
its header, and takes no RFC 3161 queries.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import struct
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from tests.handover.ship.conftest import Quiet, serving

ISSUER = "https://issuer.example.com"
#: The identities that the provider gives a CI job, and the user of a browser.
JOB = "https://github.com/example/asr/.github/workflows/ship.yml@refs/heads/main"
PERSON = "ana@example.com"
_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sigstore-test")])
_SINCE = "2020-01-01T00:00:00Z"
_ECDSA = ec.ECDSA(hashes.SHA256())


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _authority_certificate(
    key: ec.EllipticCurvePrivateKey, extended: x509.ExtendedKeyUsage | None = None
) -> x509.Certificate:
    """A root; with ``extended`` a leaf under it that has the same key."""
    now = datetime.now(timezone.utc)
    leaf = extended is not None
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "times")]) if leaf else _AUTHORITY
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_AUTHORITY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=400))
        .add_extension(x509.BasicConstraints(ca=not leaf, path_length=None), critical=True)
        .add_extension(_usage("digital_signature" if leaf else "key_cert_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    if extended is not None:
        builder = builder.add_extension(extended, critical=True)
    return builder.sign(key, hashes.SHA256())


def _usage(only: str) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name == only for name in names})


def _leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def _root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _root(leaves[:half]) + _root(leaves[half:])).digest()


def _path(leaves: list[bytes], at: int) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if at < half:
        return [*_path(leaves[:half], at), _root(leaves[half:])]
    return [*_path(leaves[half:], at - half), _root(leaves[:half])]


@dataclass
class Instance:
    """``rekor``: the log's API; ``ahead``: seconds by which the log's clock is ahead."""

    folder: Path
    rekor: int = 1
    ahead: int = 0
    authority: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    transparency: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    times: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    leaves: list[bytes] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.certificate = _authority_certificate(self.authority)
        # The log is not empty, so that proofs of inclusion have a path.
        self.leaves += [_leaf(bytes([number])) for number in range(5)]
        self.times_root = _authority_certificate(self.times)
        self.times_leaf = _authority_certificate(
            self.times, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        )

    # Settings of a client ---------------------------------------------------------------------

    def trusted_root(self) -> dict[str, Any]:
        """The public keys that verify signatures of this instance."""

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            return {
                "baseUrl": self.url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _b64(_spki(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": _SINCE},
                },
                "logId": {"keyId": _b64(hashlib.sha256(_spki(key)).digest())},
            }

        def chain(*certificates: x509.Certificate) -> dict[str, Any]:
            return {
                "subject": {"organization": "test", "commonName": "sigstore-test"},
                "uri": self.url,
                "certChain": {"certificates": [{"rawBytes": _b64(_der(c))} for c in certificates]},
                "validFor": {"start": _SINCE},
            }

        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "certificateAuthorities": [chain(self.certificate)],
            "ctlogs": [log(self.transparency)],
            "timestampAuthorities": [chain(self.times_leaf, self.times_root)],
        }

    def trust_config(self) -> dict[str, Any]:
        """The public keys, and the addresses for signing."""

        def service(path: str = "", version: int = 1) -> list[dict[str, Any]]:
            return [
                {
                    "url": self.url + path,
                    "majorApiVersion": version,
                    "operator": "test",
                    "validFor": {"start": _SINCE},
                }
            ]

        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service(),
                "oidcUrls": service(),
                "rekorTlogUrls": service(version=self.rekor),
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": service("/times") if self.rekor == 2 else [],
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def token(self, identity: str, issuer: str = ISSUER) -> str:
        """An identity token, as from an identity provider."""
        now = int(time.time())
        claims = {"aud": "sigstore", "sub": identity, "iss": issuer, "iat": now, "exp": now + 300}
        return jwt.encode(claims, "no client looks at this key, it has 32 bytes")

    # The answers ---------------------------------------------------------------------------

    def person(self, path: str) -> tuple[int, str, dict[str, Any]]:
        """A GET request's answer as the provider: status, where to go, content."""
        asked = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(asked.query))
        if asked.path == "/job":
            assert query == {"audience": "sigstore"}
            return 200, "", {"value": self.token(JOB)}
        if asked.path == "/authorize":
            code = urllib.parse.urlencode({"code": "of the browser", "state": query["state"]})
            return 302, f"{query['redirect_uri']}?{code}", {}
        assert asked.path == "/.well-known/openid-configuration"
        places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token"}
        return 200, "", {name: self.url + place for name, place in places.items()}

    def answer(self, path: str, body: bytes, bearer: str) -> tuple[str, bytes]:
        """A POST request's answer: its type and content."""
        if path == "/times":
            return "application/timestamp-reply", self._timestamp(body)
        if path == "/token":
            assert b"code=of+the+browser" in body
            return "application/json", json.dumps({"access_token": self.token(PERSON)}).encode()
        request = json.loads(body)
        answer = {
            "/api/v2/signingCert": lambda: self._certify(request, bearer),
            "/api/v1/log/entries": lambda: self._enter_1(request),
            "/api/v2/log/entries": lambda: self._enter_2(request),
        }[path]()
        return "application/json", json.dumps(answer).encode()

    def _certify(self, request: dict[str, Any], bearer: str) -> dict[str, Any]:
        claims = jwt.decode(bearer, options={"verify_signature": False})
        asked = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        assert asked.is_signature_valid
        leaf = self.issue(claims["sub"], claims["iss"], asked.public_key())
        pem = [
            c.public_bytes(serialization.Encoding.PEM).decode() for c in (leaf, self.certificate)
        ]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pem}}}

    def issue(self, identity: str, issuer: str, public: Any) -> x509.Certificate:
        """A certificate as Fulcio's, with its place in the transparency log."""
        since = datetime.now(timezone.utc) - timedelta(seconds=5)
        san = (
            x509.RFC822Name(identity)
            if "://" not in identity
            else (x509.UniformResourceIdentifier(identity))
        )
        text = issuer.encode()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_AUTHORITY)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(since + timedelta(minutes=10))
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()),
                False,
            )
            .add_extension(x509.SubjectAlternativeName([san]), critical=True)
            .add_extension(_extension("1.3.6.1.4.1.57264.1.1", text), False)
            .add_extension(
                _extension("1.3.6.1.4.1.57264.1.8", bytes([12, len(text)]) + text), False
            )
        )
        to_be_signed = builder.sign(self.authority, hashes.SHA256()).tbs_certificate_bytes
        stamp = _transparency_stamp(self, to_be_signed)
        oid = ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS.dotted_string
        return builder.add_extension(_extension(oid, stamp), False).sign(
            self.authority, hashes.SHA256()
        )

    def _enter_1(self, request: dict[str, Any]) -> dict[str, Any]:
        spec = request["spec"]
        pem = base64.b64decode(spec["signature"]["publicKey"]["content"])
        x509.load_pem_x509_certificate(pem).public_key().verify(  # type: ignore[union-attr,call-arg]
            base64.b64decode(spec["signature"]["content"]),
            bytes.fromhex(spec["data"]["hash"]["value"]),
            ec.ECDSA(utils.Prehashed(hashes.SHA256())),
        )
        body = rfc8785.dumps(request)
        index, proof = self._include(body)
        entry = {
            "body": _b64(body),
            "integratedTime": int(time.time()) + self.ahead,
            "logID": self._log_id().hex(),
            "logIndex": index,
        }
        promise = _b64(self.log.sign(rfc8785.dumps(entry), _ECDSA))
        return {
            "ab" * 32: entry
            | {"verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}
        }

    def _enter_2(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = request["hashedRekordRequestV002"]
        verifier = asked["signature"]["verifier"]
        der = base64.b64decode(verifier["x509Certificate"]["rawBytes"])
        x509.load_der_x509_certificate(der).public_key().verify(  # type: ignore[union-attr,call-arg]
            base64.b64decode(asked["signature"]["content"]),
            base64.b64decode(asked["digest"]),
            ec.ECDSA(utils.Prehashed(hashes.SHA256())),
        )
        body = rfc8785.dumps(
            {
                "apiVersion": "0.0.2",
                "kind": "hashedrekord",
                "spec": {
                    "hashedRekordV002": {
                        "data": {"algorithm": "SHA2_256", "digest": asked["digest"]},
                        "signature": asked["signature"],
                    }
                },
            }
        )
        index, proof = self._include(body)
        return {
            "logIndex": str(index),
            "logId": {"keyId": _b64(self._log_id())},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": str(index),
                "treeSize": str(proof["treeSize"]),
                "rootHash": _b64(bytes.fromhex(proof["rootHash"])),
                "hashes": [_b64(bytes.fromhex(one)) for one in proof["hashes"]],
                "checkpoint": {"envelope": proof["checkpoint"]},
            },
            "canonicalizedBody": _b64(body),
        }

    def _log_id(self) -> bytes:
        return hashlib.sha256(_spki(self.log)).digest()

    def _include(self, body: bytes) -> tuple[int, dict[str, Any]]:
        self.leaves.append(_leaf(body))
        index, size, root = len(self.leaves) - 1, len(self.leaves), _root(self.leaves)
        note = f"test.example.com - 1\n{size}\n{_b64(root)}\n"
        signed = _b64(self._log_id()[:4] + self.log.sign(note.encode(), _ECDSA))
        return index, {
            "checkpoint": f"{note}\n\u2014 test.example.com {signed}\n",
            "hashes": [one.hex() for one in _path(self.leaves, index)],
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": size,
        }

    def _timestamp(self, query: bytes) -> bytes:
        """A timestamp by OpenSSL, which implements RFC 3161."""
        here = self.folder / "times"
        here.mkdir(exist_ok=True)
        (here / "query").write_bytes(query)
        pem = serialization.Encoding.PEM
        (here / "leaf.pem").write_bytes(self.times_leaf.public_bytes(pem))
        (here / "key.pem").write_bytes(
            self.times.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (here / "serial").write_text("01\n")
        (here / "conf").write_text(
            f"[tsa]\ndefault_tsa=t\n[t]\nserial={here}/serial\nsigner_cert={here}/leaf.pem\n"
            f"signer_key={here}/key.pem\ndefault_policy=1.2.3.4\ndigests=sha256\n"
            "signer_digest=sha256\ness_cert_id_alg=sha256\n"
        )
        subprocess.run(
            [
                "openssl",
                "ts",
                "-reply",
                "-config",
                here / "conf",
                "-queryfile",
                here / "query",
                "-out",
                here / "reply",
            ],
            check=True,
            capture_output=True,
        )
        return (here / "reply").read_bytes()


def _extension(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def _transparency_stamp(instance: Instance, to_be_signed: bytes) -> bytes:
    """A list of one signed certificate timestamp, as an extension has it; RFC 6962, 3.2."""
    log_id = hashlib.sha256(_spki(instance.transparency)).digest()
    issuer = hashlib.sha256(_spki(instance.authority)).digest()
    stamp = struct.pack("!Q", int(time.time() * 1000))
    length = len(to_be_signed).to_bytes(3, "big")
    signed = b"\0\0" + stamp + b"\0\1" + issuer + length + to_be_signed + b"\0\0"
    signature = instance.transparency.sign(signed, _ECDSA)
    one = b"\0" + log_id + stamp + b"\0\0" + b"\4\3" + struct.pack("!H", len(signature))
    one += signature
    listed = struct.pack("!H", len(one)) + one
    listed = struct.pack("!H", len(listed)) + listed
    return b"\x04" + (b"\x81" if len(listed) > 127 else b"") + bytes([len(listed)]) + listed


class _Handler(Quiet):
    def __init__(self, *given: Any, instance: Instance) -> None:
        self.instance = instance
        super().__init__(*given)

    def do_GET(self) -> None:  # noqa: N802 - its base's name
        status, to, content = self.instance.person(self.path)
        self.send_response(status)
        if to:
            self.send_header("Location", to)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def do_POST(self) -> None:  # noqa: N802 - its base's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        kind, content = self.instance.answer(self.path, body, bearer)
        self.send_response(201)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def running(folder: Path, rekor: int = 1) -> Iterator[Instance]:
    """An instance with new keys, which runs during the block."""
    instance = Instance(folder, rekor)
    with serving(functools.partial(_Handler, instance=instance)) as url:
        instance.url = url
        yield instance


def signed(instance: Instance, message: bytes, identity: str, issuer: str = ISSUER) -> Any:
    """A Sigstore bundle as JSON values, made by the genuine client."""
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import SigningContext

    config = ClientTrustConfig.from_json(json.dumps(instance.trust_config()))
    token = IdentityToken(instance.token(identity, issuer))
    with SigningContext.from_trust_config(config).signer(token) as session:
        return json.loads(session.sign_artifact(message).to_json())
