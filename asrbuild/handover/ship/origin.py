"""The signer of an artifact in a store, proven by the header that it was pulled with."""

from __future__ import annotations

from pathlib import Path

from asrbuild.artifact import signatures
from asrbuild.base.digest import tree_digests
from asrbuild.handover.ship.formats.header import MAX_HEADER, check_header, parse_header
from asrbuild.handover.ship.refusal import Refusal, Refused, refusing
from asrbuild.handover.ship.signing.trust import Trust, Trusted


def prove_origin(artifact: Path, trust: Trust) -> Trusted | None:
    """The trusted key that signed exactly the files of an artifact; every byte is read.

    Returns:
        None where no signature is kept: the artifact was built here, or copied without it.

    Raises:
        Refused: a file is not as it was signed, or the signer is not trusted here.
    """
    raw = signatures.read_signature(artifact, MAX_HEADER)
    if raw is None:
        return None
    with refusing(artifact):
        header = parse_header(raw)
        key = check_header(header, trust)
        signed, present = header.digests, tree_digests(artifact)
        if differing := sorted(p for p in {*signed, *present} if signed.get(p) != present.get(p)):
            raise Refused(
                Refusal.DIGEST_MISMATCH,
                f"{differing[0]} is not as {key.label} signed it",
                fix="pull it again, which repairs it",
            )
    return key
