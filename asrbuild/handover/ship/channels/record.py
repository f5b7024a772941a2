"""One signed record of a channel: its fields, and how a record is read and checked.

A record says "the n-th value of this channel of this artifact on this remote is this version, whose
header has this digest; the record before has that digest", and is signed. It may expire, and one
that the old and the new key sign hands the channel over; see docs/bundle-format.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import strict_json
from asrbuild.handover.ship.names import check_version
from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.remotes.remote import MAX_RECORD, is_identity
from asrbuild.handover.ship.signing.envelope import (
    Signatures,
    open_envelope,
    signers,
)
from asrbuild.handover.ship.signing.trust import (
    Trust,
    Trusted,
    TrustedKey,
    raw_key,
)

PAYLOAD_TYPE = "application/vnd.asrbuild.channel+json"
FORMAT = "asrbuild-channel/1"
#: Of a record that says what evidence the channel moved on; programs before it refuse that.
FORMAT_EVIDENCE = "asrbuild-channel/2"
_HEX = re.compile(r"[0-9a-f]{64}")
#: An expiry, in UTC.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_KEYS = {"channel", "counter", "format", "header", "name", "previous", "time", "version", "why"}
#: Records that are bound to a remote have these; records of the older format have neither.
_BOUND = {"expires", "remote"}
ROTATE = "rotate"
MAX_REASON = 500


@dataclass(frozen=True)
class Accepted:
    """Why a channel may point at a version: evidence that satisfies a policy, or an override.

    Attributes:
        policy: SHA-256 of the policy's canonical JSON; None: no policy was asked.
        digests: the evidence files that satisfied it.
        without: the reason for moving the channel without; None: the policy is satisfied.
    """

    policy: str | None
    digests: tuple[str, ...]
    without: str | None


@dataclass(frozen=True)
class Record:
    """The ``counter``-th value of a channel.

    Attributes:
        header: digest of the bundle header or set that it points at.
        previous: digest of the record before; None for the first.
        why: set, rollback or rotate.
        signer: the trusted signer's label, or the ids of the keys if none is trusted.
        digest: SHA-256 of the record as it is stored.
        remote: the identity of the remote it is for; None in records of the older format.
        expires: ISO 8601; None: never.
        key: the public key that a rotation hands over to, base64 of its 32 bytes.
        evidence: on what evidence the channel moved; None: none was asked for.
    """

    name: str
    channel: str
    counter: int
    version: str
    header: str
    previous: str | None
    time: str
    why: str
    signer: str
    digest: str
    remote: str | None = None
    expires: str | None = None
    key: str | None = None
    evidence: Accepted | None = None

    @property
    def expired(self) -> bool:
        """Whether its expiry is over by this machine's clock."""
        return self.expires is not None and _time(self.expires) <= datetime.now(timezone.utc)


def parse_record(raw: bytes, name: str, channel: str, counter: int, trust: Trust) -> Record:
    """A record that a trusted signer signed for exactly this channel and counter.

    Raises:
        Refused: RECORD_MALFORMED, IDENTITY_MISMATCH, or the fault of its signature.
    """
    record, _, failure = read_record(raw, name, channel, counter, trust)
    if failure is not None:
        raise failure
    return record


def read_record(
    raw: bytes, name: str, channel: str, counter: int, trust: Trust
) -> tuple[Record, list[Trusted], Refused | None]:
    """A record, its trusted signers, and the refusal to raise if there are none.

    Raises:
        Refused: RECORD_MALFORMED, IDENTITY_MISMATCH; BAD_SIGNATURE of a trusted signer.
    """
    envelope = strict_json(raw, MAX_RECORD, Refusal.RECORD_MALFORMED)
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, Refusal.RECORD_MALFORMED)
    by: list[Trusted] = []
    failure = None
    try:
        by = signers(PAYLOAD_TYPE, payload, signatures, trust)
    except Refused as refused:
        if refused.reason is Refusal.BAD_SIGNATURE:
            raise
        failure = refused
    fields = strict_json(payload, MAX_RECORD, Refusal.RECORD_MALFORMED)
    if not _is_record(fields):
        raise Refused(Refusal.RECORD_MALFORMED, "it is not a record of a channel")
    place = (fields["name"], fields["channel"], fields["counter"])
    if place != (name, channel, counter):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"record {counter} of {name}@{channel} was signed as {shown(place)}",
        )
    del fields["format"]
    version = check_version(fields.pop("version"))
    if "evidence" in fields:
        basis = fields["evidence"]
        fields["evidence"] = Accepted(basis["policy"], tuple(basis["digests"]), basis["without"])
    label = by[0].label if by else _unknown(signatures)
    record = Record(**fields, version=version, signer=label, digest=hashlib.sha256(raw).hexdigest())
    return record, by, failure


def _is_record(fields: Any) -> bool:
    if not isinstance(fields, dict):
        return False
    extra = set(fields) - _KEYS
    rotates = fields.get("why") == ROTATE
    form = FORMAT
    if "evidence" in extra:
        form = FORMAT_EVIDENCE
        if not is_accepted(fields["evidence"]):
            return False
        extra -= {"evidence"}
    if (
        not set(fields) >= _KEYS
        or extra not in ((set(), _BOUND) if not rotates else (_BOUND | {"key"},))
        or fields["format"] != form
        or type(fields["counter"]) is not int
        or not is_digest(fields["header"])
        or not (fields["previous"] is None or is_digest(fields["previous"]))
        or not isinstance(fields["time"], str)
        or fields["why"] not in ("set", "rollback", ROTATE)
    ):
        return False
    if extra and not is_identity(fields["remote"]):
        return False
    expires, key = fields.get("expires"), fields.get("key")
    return (expires is None or _is_time(expires)) and (key is None or isinstance(key, str))


def _unknown(signatures: Signatures) -> str:
    ids = ", ".join(str(one["keyid"])[:12] for one in signatures.keys if one["keyid"].isalnum())
    return f"not trusted here: {shown(ids)}"


def is_digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def is_accepted(value: Any) -> bool:
    """Whether this is the ``evidence`` of a record: a policy with its evidence, or a reason."""
    if not isinstance(value, dict) or set(value) != {"policy", "digests", "without"}:
        return False
    policy, digests, without = value["policy"], value["digests"], value["without"]
    return (
        (policy is None or is_digest(policy))
        and isinstance(digests, list)
        and all(map(is_digest, digests))
        and (is_reason(without) if without is not None else policy is not None and bool(digests))
    )


def is_reason(text: Any) -> bool:
    """Whether this can be the reason of an override: one printable line."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= MAX_REASON
        and text.isprintable()
        and text == text.strip()
    )


def _is_time(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(_TIME.fullmatch(text) and _time(text))
    except ValueError:
        return False


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def handed_over(record: Record, raw: bytes, by: str) -> TrustedKey:
    """The key that a rotation hands over to; it must have signed the record as well.

    Raises:
        Refused: RECORD_MALFORMED, NOT_SIGNED or BAD_SIGNATURE.
    """
    try:
        public = raw_key(base64.b64decode(str(record.key), validate=True))
    except (ValueError, binascii.Error, AsrbuildError):
        raise Refused(
            Refusal.RECORD_MALFORMED, "the key it hands over to is not a public key"
        ) from None
    keyid = hashlib.sha256(public.public_bytes_raw()).hexdigest()
    new = TrustedKey(keyid, f"{by[:40]}-{keyid[:8]}", public)
    envelope = strict_json(raw, MAX_RECORD, Refusal.RECORD_MALFORMED)
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, Refusal.RECORD_MALFORMED)
    try:
        signers(PAYLOAD_TYPE, payload, signatures, {keyid: new})
    except Refused as refused:
        if refused.reason is Refusal.BAD_SIGNATURE:
            raise
        raise Refused(
            Refusal.NOT_SIGNED,
            "the key that the channel is handed over to has not signed the record",
        ) from None
    return new
