"""The versions on a remote, their signers, and the channels that point at them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels.chain import newest
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.lookup import proven
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.trust import Trust


@dataclass(frozen=True)
class Listed:
    """A version on a remote.

    Attributes:
        channels: those that point at it.
        bytes: of all its files; None for a set, or if it is refused.
        header: digest of its header or set; None if it is refused.
        signer: the trusted signer; None if it is refused.
        refused: the reason, or what is wrong; None if a trusted key signed it.
        variants: of a set, what each is; None for an artifact.
    """

    name: str
    version: str
    channels: list[str]
    bytes: int | None = None
    header: str | None = None
    signer: str | None = None
    refused: str | None = None
    variants: list[dict[str, Any]] | None = None


def list_remote(remote: Remote, trust: Trust) -> list[Listed]:
    """Every version of every artifact and set; a far remote gets several requests at a time."""

    def versions(name: str) -> list[tuple[str, str, list[str]]]:
        pointed: dict[str, list[str]] = {}
        for channel in remote.channels(name):
            version = _pointed_at(remote, name, channel, trust)
            if version is not None:
                pointed.setdefault(version, []).append(channel)
        return [(name, version, pointed.get(version, [])) for version in remote.versions(name)]

    def listed(of: tuple[str, str, list[str]]) -> Listed:
        name, version, channels = of
        try:
            published, key = proven(remote, name, version, trust)
        except AsrbuildError as error:
            refused = error.reason.value if isinstance(error, Refused) else error.message
            return Listed(name, version, channels, refused=refused)
        if isinstance(published, Header):
            size, variants = published.total, None
        else:
            size, variants = None, [asdict(variant) for variant in published.variants]
        return Listed(name, version, channels, size, published.digest, key.label, variants=variants)

    return run_concurrently(
        listed, [of for every in run_concurrently(versions, remote.names()) for of in every]
    )


def _pointed_at(remote: Remote, name: str, channel: str, trust: Trust) -> str | None:
    try:
        record = newest(remote, name, channel, trust)
    except AsrbuildError:
        return None  # a record that is refused points at nothing
    return None if record is None else record.version
