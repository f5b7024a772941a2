"""Signed evidence of devices on its way: sealed, sent with an artifact, and fetched with it.

A file is a DSSE envelope in canonical JSON, as a channel's record is. Its payload is for
:mod:`asrbuild.handover.evidence`; here it is only signed, and carried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from asrbuild.artifact.evidence import keep_evidence, list_evidence
from asrbuild.base.digest import canonical_json
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import strict_json
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.remote import MAX_EVIDENCE, Remote
from asrbuild.handover.ship.signing.envelope import check_signatures, open_envelope, sign
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust, Trusted

PAYLOAD_TYPE = "application/vnd.asrbuild.evidence+json"
#: More runs of one version than these are not fetched.
_MOST_FILES = 1000


def seal(payload: bytes, signer: AnySigner) -> bytes:
    """A document in its signed envelope; the same document and key give the same bytes."""
    return canonical_json(sign(PAYLOAD_TYPE, payload, signer)).encode()


def unseal(raw: bytes, trust: Trust) -> tuple[bytes, Trusted]:
    """The document in a signed envelope, and the trusted signer.

    Raises:
        Refused: RECORD_MALFORMED, or the fault of its signature.
    """
    envelope = strict_json(raw, MAX_EVIDENCE, Refusal.RECORD_MALFORMED)
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, Refusal.RECORD_MALFORMED)
    return payload, check_signatures(PAYLOAD_TYPE, payload, signatures, trust)


def send_evidence(artifact: Path, remote: Remote, name: str, version: str) -> int:
    """Puts the evidence of an artifact in a store on a remote; the number of files sent.

    A remote that keeps no evidence gets none.
    """
    files = list_evidence(artifact)
    if not files or (present := remote.evidence(name, version)) is None:
        return 0
    sent = 0
    for path in files:
        if path.stem not in present:
            with disk_errors("reading evidence", path):
                sent += remote.add_evidence(name, version, path.stem, path.read_bytes())
    return sent


def fetch_evidence(
    remote: Remote, name: str, version: str, trust: Trust
) -> list[tuple[str, bytes, Trusted]]:
    """The evidence of a version on a remote that a trusted signer signed: digest, file, signer.

    Other files are passed over: anyone who may write to the remote may add some.
    """
    found = []
    for digest in (remote.evidence(name, version) or [])[:_MOST_FILES]:
        raw = remote.read_evidence(name, version, digest)
        if raw is None or hashlib.sha256(raw).hexdigest() != digest:
            continue
        try:
            _, signer = unseal(raw, trust)
        except Refused:
            continue
        found.append((digest, raw, signer))
    return found


def bring_evidence(
    remote: Remote,
    name: str,
    version: str,
    artifact: Path,
    trust: Trust,
    note: Callable[[str], object] = lambda _: None,
) -> None:
    """Keeps the evidence of a version that was pulled beside it in the store.

    The artifact is whole without: what cannot be read of it is noted, and is no failure.
    """
    try:
        for _, raw, _ in fetch_evidence(remote, name, version, trust):
            keep_evidence(artifact, raw)
    except AsrbuildError as error:
        note(f"the evidence of {name} {version} was not fetched: {error.message}")
