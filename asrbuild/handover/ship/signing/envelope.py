"""DSSE envelopes: a signed payload, its signatures, and which trusted signers made them.

https://github.com/secure-systems-lab/dsse
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.sigstore import MAX_SIGSTORE, SigstoreSigner, claimed, prove
from asrbuild.handover.ship.signing.trust import Trust, Trusted, TrustedIdentity, TrustedKey

MAX_SIGNATURES = 16


@dataclass(frozen=True)
class Signatures:
    """The signatures of an envelope; only their shape is checked.

    ``keys``: ``{"keyid", "sig"}`` each; ``sigstore``: a Sigstore bundle, as JSON values.
    """

    keys: tuple[dict[str, str], ...]
    sigstore: dict[str, Any] | None


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the signed bytes name their own type and length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, signer: AnySigner) -> dict[str, Any]:
    """A DSSE envelope as JSON values; reproducible with a key, not through Sigstore."""
    message = pae(payload_type, payload)
    key = signer.key if isinstance(signer, SigstoreSigner) else signer
    envelope: dict[str, Any] = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [],
    }
    if key is not None:
        signature = base64.b64encode(key.private.sign(message)).decode()
        envelope["signatures"].append({"keyid": key.keyid, "sig": signature})
    if isinstance(signer, SigstoreSigner):
        envelope["sigstore"] = signer.sign(message)
    return envelope


def open_envelope(envelope: Any, payload_type: str, malformed: Refusal) -> tuple[bytes, Signatures]:
    """The payload and signatures of an envelope whose signature is not checked yet."""
    if (
        not isinstance(envelope, dict)
        or set(envelope) - {"sigstore"} != {"payload", "payloadType", "signatures"}
        or not isinstance(envelope.get("sigstore", {}), dict)
        or not isinstance(envelope["payload"], str)
        or not isinstance(envelope["signatures"], list)
        or len(envelope["signatures"]) > MAX_SIGNATURES
        or not all(
            isinstance(one, dict)
            and set(one) == {"keyid", "sig"}
            and all(isinstance(text, str) for text in one.values())
            for one in envelope["signatures"]
        )
    ):
        raise Refused(malformed, "the signed envelope is not a DSSE envelope")
    if envelope["payloadType"] != payload_type:
        raise Refused(
            malformed, f"the envelope holds {shown(envelope['payloadType'])}, not {payload_type}"
        )
    sigstore = envelope.get("sigstore")
    if (size := len(json.dumps(sigstore))) > MAX_SIGSTORE:
        raise Refused(
            Refusal.HEADER_TOO_LARGE,
            f"its Sigstore bundle has {size} bytes, at most {MAX_SIGSTORE} are read",
        )
    signatures = Signatures(tuple(envelope["signatures"]), sigstore)
    return _decode(envelope["payload"], malformed), signatures


def _decode(text: str, malformed: Refusal) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(malformed, "the signed envelope is not base64") from None
    if base64.b64encode(decoded).decode() != text:
        raise Refused(malformed, "the signed envelope is not canonical base64")
    return decoded


def check_signatures(
    payload_type: str, payload: bytes, signatures: Signatures, trust: Trust
) -> Trusted:
    """The first trusted key or identity that signed the payload; see :func:`signers`."""
    return signers(payload_type, payload, signatures, trust)[0]


def signers(
    payload_type: str, payload: bytes, signatures: Signatures, trust: Trust
) -> list[Trusted]:
    """Every trusted key and identity that signed the payload; one at least.

    Raises:
        Refused: NOT_SIGNED, UNTRUSTED_SIGNER, or BAD_SIGNATURE if a signature that names a trusted
            signer is invalid, even if others are valid.
        AsrbuildError: a trusted identity claims to have signed, and the extra is not installed.
    """
    if not signatures.keys and signatures.sigstore is None:
        raise Refused(Refusal.NOT_SIGNED, "it carries no signature")
    message = pae(payload_type, payload)
    trusted: list[Trusted] = []
    unknown: list[str] = []
    for one in signatures.keys:
        key = trust.get(one["keyid"])
        if isinstance(key, TrustedKey):
            _prove_key(one["sig"], message, key)
            trusted.append(key)
        else:
            unknown.append(f"the key {shown(one['keyid'][:12])}")
    if signatures.sigstore is not None:
        for claim in claimed(signatures.sigstore):
            identity = trust.get(claim.keyid)
            if isinstance(identity, TrustedIdentity):
                prove(signatures.sigstore, message, identity)
                trusted.append(identity)
            else:
                unknown.append(f"{shown(claim.identity)} of {shown(claim.issuer)}")
    if not trusted:
        raise Refused(
            Refusal.UNTRUSTED_SIGNER,
            f"no signer that is trusted here signed it, only {', '.join(unknown)}",
            fix="if you know the signer, trust its key with `asrbuild key trust FILE.pub`, or "
            "its identity with --identity and --issuer",
        )
    return trusted


def _prove_key(signature: str, message: bytes, key: TrustedKey) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        key.public.verify(_decode(signature, Refusal.BAD_SIGNATURE), message)
    except InvalidSignature:
        raise Refused(
            Refusal.BAD_SIGNATURE,
            f"the signature of {key.label} ({key.keyid[:12]}) does not match the content",
            fix="the content was changed after it was signed; get it from its origin again",
        ) from None
