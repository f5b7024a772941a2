"""What a name and a version or channel mean on a remote, proven before anybody goes by it."""

from __future__ import annotations

from pathlib import Path

from asrbuild.artifact.lookup import versions_meant
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.seen import follow, remember, seen_channels
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.formats.sets import (
    VariantSet,
    artifacts_of,
    check_published,
    parse_published,
)
from asrbuild.handover.ship.names import check_name, check_version, is_channel
from asrbuild.handover.ship.refusal import Refusal, Refused, refusing
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.trust import Trust, Trusted

DEFAULT_CHANNEL = "stable"


def split_spec(spec: str) -> tuple[str, str]:
    """``name@version``, ``name@channel`` or a bare name, which means its stable channel."""
    name, _, selector = spec.partition("@")
    return check_name(name), selector or DEFAULT_CHANNEL


def find(
    remote: Remote, name: str, selector: str, trust: Trust, config: Path, *, fresh: bool = False
) -> tuple[Header | VariantSet, Trusted]:
    """The header or set that a channel, a version or the start of a version means, proven.

    Args:
        fresh: demand of a channel that its record has an expiry, which is not over.

    Raises:
        Refused: it is not what a trusted key signed, or not the newest that was seen.
        AsrbuildError: there is no such thing.
    """
    record = None
    if is_channel(selector) and _means_channel(remote, name, selector, config):
        record, trust = follow(remote, name, selector, trust, config, fresh=fresh)
        version = record.version
    elif fresh:
        raise AsrbuildError(
            "a version has no expiry", key="--fresh", fix="name a channel, or leave out --fresh"
        )
    else:
        version = whole_version(remote, name, check_version(selector))
    found, key = proven(remote, name, version, trust)
    if record is not None:
        require_digest(remote, found, record.header, "the one that the channel was pointed at")
        if isinstance(found, VariantSet):
            remember(remote, record, config, artifacts_of(found))
    return found, key


def proven(
    remote: Remote, name: str, version: str, trust: Trust
) -> tuple[Header | VariantSet, Trusted]:
    """What is on the remote as this version, and the trusted key that signed it as this."""
    raw = remote.header(name, version)
    if raw is None:
        raise Refused(
            Refusal.FILE_MISSING, f"the remote has no {name} {version}", file=remote.address
        )
    with refusing(remote.address):
        found = parse_published(raw)
        key = check_published(found, trust)
    if (found.name, found.version) != (name, version):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"where {name} {version} should be is {found.name} {found.version}",
            file=remote.address,
        )
    return found, key


def require_digest(remote: Remote, found: Header | VariantSet, digest: str, which: str) -> None:
    if found.digest != digest:
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"{found.name} {found.version} is not {which}",
            file=remote.address,
        )


def require_artifact(found: Header | VariantSet) -> Header:
    """What was found, where only an artifact will do.

    Raises:
        AsrbuildError: it is a set of them.
    """
    if isinstance(found, Header):
        return found
    raise AsrbuildError(
        f"{found.name} {found.version} is a set of artifacts",
        fix=f"name one: {', '.join('@'.join(one) for one in artifacts_of(found))}",
    )


def _means_channel(remote: Remote, name: str, selector: str, config: Path) -> bool:
    """A word that is no version is a channel, even one that is gone: that must be noticed. So is
    what was a channel when it was last asked for, though a version may begin so."""
    return (
        not any(c.isdigit() for c in selector)
        or (remote.address, name, selector) in seen_channels(config)
        or selector in remote.channels(name)
    )


def whole_version(remote: Remote, name: str, start: str) -> str:
    if remote.header(name, start) is not None:
        return start
    versions = remote.versions(name)
    fitting = versions_meant(versions, start)
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(versions[-10:]) or "none"
    raise AsrbuildError(
        f"{start} fits {len(fitting)} versions of {name}",
        file=remote.address,
        fix=f"the remote has: {known}",
    )
