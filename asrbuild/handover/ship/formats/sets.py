"""A set: versions on a remote that are variants of one model, one of which suits each device.

    {"envelope": DSSE, "format": FORMAT}

A set takes the place of a version's header on the remote, with its own name and version, so
channels point at it as at any version. The envelope holds the name, the version, and the variants
as a bundle of variants lists them. The artifacts stay where they are, each with its own signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.formats.header import (
    MAX_HEADER,
    PAYLOAD_TYPE as HEADER_TYPE,
    Header,
    header_fields,
    parse_header,
    strict_json,
)
from asrbuild.handover.ship.formats.variants import Variant, parse_listed
from asrbuild.handover.ship.names import check_name, check_version
from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.signing.envelope import (
    Signatures,
    open_envelope,
    sign,
    signers,
)
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust, Trusted

FORMAT = "asrbuild-set/1"
PAYLOAD_TYPE = "application/vnd.asrbuild.set+json"
#: The keys are sorted, so a set ends with this, and a header does not.
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


def artifacts_of(published: Header | VariantSet) -> list[tuple[str, str]]:
    """Name and version of the artifact, or of each artifact in the set."""
    every = (published,) if isinstance(published, Header) else published.variants
    return [(one.name, one.version) for one in every]


def make_set(name: str, variants: Sequence[Variant], signer: AnySigner) -> VariantSet:
    """Signs a set of variants, the preferred first."""
    fields = {
        "name": name,
        "variants": [asdict(variant) for variant in variants],
        "version": set_version(variants),
    }
    envelope = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)
    # Parsed as a reader parses it: a set that cannot be pulled is not published.
    return parse_set(canonical_json({"envelope": envelope, "format": FORMAT}).encode())


def set_version(variants: Sequence[Variant]) -> str:
    """The first variant's recipe version, and a digest of the names and versions of all."""
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
        raise Refused(Refusal.HEADER_MALFORMED, "the signed content is not a set")
    name, version = check_name(fields["name"]), check_version(fields["version"])
    variants = parse_listed(fields["variants"])
    if version.rpartition("+")[2] != _which(variants):
        raise Refused(
            Refusal.IDENTITY_MISMATCH, f"the version {shown(version)} is not that of these variants"
        )
    return VariantSet(name, version, variants, payload, signatures, raw)


def parse_published(raw: bytes) -> Header | VariantSet:
    """Parses a version on a remote: an artifact's header, or a set.

    Raises:
        Refused: it is neither, see :func:`parse_header` and :func:`parse_set`.
    """
    return parse_set(raw) if raw.endswith(_END) else parse_header(raw)


def check_published(published: Header | VariantSet, trust: Trust) -> Trusted:
    """The first trusted signer; raises :class:`Refused` if there is none."""
    return signers_of(published, trust)[0]


def signers_of(published: Header | VariantSet, trust: Trust) -> list[Trusted]:
    """Every trusted signer; raises :class:`Refused` if there is none."""
    kind = HEADER_TYPE if isinstance(published, Header) else PAYLOAD_TYPE
    return signers(kind, published.payload, published.signatures, trust)
