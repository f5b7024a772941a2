"""A set: versions on a remote that are variants of one, of which each device takes what it loads.

    {"envelope": DSSE, "format": FORMAT}

It is on the remote where a version's header would be, under a name and version of its own, so
channels point at it as at any version. The envelope holds the name, the version, and the variants
as a bundle of several lists them. The artifacts stay where they are; each has its own signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.formats.header import (
    MAX_HEADER,
    Header,
    header_fields,
    parse_header,
    strict_json,
)
from asrbuild.handover.ship.formats.header import PAYLOAD_TYPE as HEADER_TYPE
from asrbuild.handover.ship.formats.variants import Variant, parse_listed
from asrbuild.handover.ship.names import check_name, check_version
from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.signing.envelope import (
    AnySigner,
    Signatures,
    open_envelope,
    sign,
    signers,
)
from asrbuild.handover.ship.signing.trust import Trust, Trusted

FORMAT = "asrbuild-set/1"
PAYLOAD_TYPE = "application/vnd.asrbuild.set+json"
#: The keys are sorted, so this is how a set ends, and how a header does not.
_END = f'"format":"{FORMAT}"}}'.encode()


@dataclass(frozen=True)
class VariantSet:
    """A set whose shape is checked; ``raw`` is its one spelling."""

    name: str
    version: str
    variants: tuple[Variant, ...]
    payload: bytes
    signatures: Signatures
    raw: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the set; it commits to every header, and so to every byte."""
        return hashlib.sha256(self.raw).hexdigest()


def artifacts_of(found: Header | VariantSet) -> list[tuple[str, str]]:
    """Name and version of each artifact that it is, or needs."""
    every = (found,) if isinstance(found, Header) else found.variants
    return [(one.name, one.version) for one in every]


def make_set(name: str, variants: Sequence[Variant], signer: AnySigner) -> VariantSet:
    """Signs a set of variants, the preferred first."""
    fields = {
        "name": name,
        "variants": [asdict(variant) for variant in variants],
        "version": set_version(variants),
    }
    envelope = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)
    # Read back as a stranger's: what cannot be pulled is not published.
    return parse_set(canonical_json({"envelope": envelope, "format": FORMAT}).encode())


def set_version(variants: Sequence[Variant]) -> str:
    """The recipe's version of the first, and a digest of which artifacts there are."""
    return f"{variants[0].version.rpartition('+')[0]}+{_which(variants)}"


def _which(variants: Sequence[Variant]) -> str:
    listed = [f"{variant.name}/{variant.version}" for variant in variants]
    return hashlib.sha256(canonical_json(listed).encode()).hexdigest()[:12]


def parse_set(raw: bytes) -> VariantSet:
    """Checks shape, limits and names; signatures are not checked.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    value = header_fields(raw, FORMAT, {"envelope", "format"})
    payload, signatures = open_envelope(value["envelope"], PAYLOAD_TYPE, Refusal.HEADER_MALFORMED)
    fields = strict_json(payload, MAX_HEADER, Refusal.HEADER_MALFORMED)
    if not isinstance(fields, dict) or set(fields) != {"name", "variants", "version"}:
        raise Refused(Refusal.HEADER_MALFORMED, "what is signed is no set")
    name, version = check_name(fields["name"]), check_version(fields["version"])
    variants = parse_listed(fields["variants"])
    if version.rpartition("+")[2] != _which(variants):
        raise Refused(
            Refusal.IDENTITY_MISMATCH, f"the version {shown(version)} is not of these variants"
        )
    return VariantSet(name, version, variants, payload, signatures, raw)


def parse_published(raw: bytes) -> Header | VariantSet:
    """What is on a remote as a version: an artifact's header, or a set.

    Raises:
        Refused: it is neither, see :func:`parse_header` and :func:`parse_set`.
    """
    return parse_set(raw) if raw.endswith(_END) else parse_header(raw)


def check_published(found: Header | VariantSet, trust: Trust) -> Trusted:
    """The trusted key that signed it; raises :class:`Refused` when there is none."""
    return signers_of(found, trust)[0]


def signers_of(found: Header | VariantSet, trust: Trust) -> list[Trusted]:
    """Every trusted key and identity that signed it; raises :class:`Refused` when there is none."""
    kind = HEADER_TYPE if isinstance(found, Header) else PAYLOAD_TYPE
    return signers(kind, found.payload, found.signatures, trust)
