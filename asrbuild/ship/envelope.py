"""DSSE envelopes: what is signed, by whom, and whether one who is trusted is among them.

https://github.com/secure-systems-lab/dsse
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from asrbuild.ship.keys import Signer, Trust, Trusted
from asrbuild.ship.refusal import Refusal, Refused, shown

MAX_SIGNATURES = 16


def _pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed names its own type and length."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, signer: Signer) -> dict[str, Any]:
    """A DSSE envelope as JSON values."""
    signature = signer.private.sign(_pae(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": signer.keyid, "sig": base64.b64encode(signature).decode()}],
    }


def open_envelope(envelope: Any, payload_type: str, malformed: Refusal) -> tuple[bytes, list[Any]]:
    """The payload and signatures of an envelope whose signature is not checked yet."""
    if (
        not isinstance(envelope, dict)
        or set(envelope) != {"payload", "payloadType", "signatures"}
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
    return _decode(envelope["payload"], malformed), envelope["signatures"]


def _decode(text: str, malformed: Refusal) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(malformed, "the signed envelope is not base64") from None
    if base64.b64encode(decoded).decode() != text:
        raise Refused(malformed, "the signed envelope is not base64 in its one form")
    return decoded


def check_signatures(
    payload_type: str, payload: bytes, signatures: list[Any], trust: Trust
) -> Trusted:
    """The trusted key that signed the payload.

    Raises:
        Refused: NOT_SIGNED, UNTRUSTED_SIGNER, or BAD_SIGNATURE where a signature that claims to
            be of a trusted key is not, whoever else signed.
    """
    from cryptography.exceptions import InvalidSignature

    if not signatures:
        raise Refused(Refusal.NOT_SIGNED, "it carries no signature")
    believed: Trusted | None = None
    for one in signatures:
        key = trust.get(one["keyid"])
        if key is None:
            continue
        try:
            key.public.verify(
                _decode(one["sig"], Refusal.BAD_SIGNATURE), _pae(payload_type, payload)
            )
        except InvalidSignature:
            raise Refused(
                Refusal.BAD_SIGNATURE,
                f"the signature of {key.label} ({key.keyid[:12]}) does not fit its content",
                fix="it was changed after it was signed; get it from its origin again",
            ) from None
        believed = believed or key
    if believed is None:
        ids = ", ".join(shown(one["keyid"][:12]) for one in signatures)
        raise Refused(
            Refusal.UNTRUSTED_SIGNER,
            f"it is signed by a key that is not trusted here: {ids}",
            fix="if you know that key, `asrbuild key trust FILE.pub`",
        )
    return believed
