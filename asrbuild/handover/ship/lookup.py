"""The artifact or set that a name with a version or channel means on a remote, proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asrbuild.artifact.lookup import versions_meant
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.chain import newest
from asrbuild.handover.ship.channels.seen import follow, remember, seen_channels, seen_versions
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.formats.sets import (
    VariantSet,
    artifacts_of,
    check_published,
    parse_published,
)
from asrbuild.handover.ship.names import check_name, check_version, is_channel
from asrbuild.handover.ship.refusal import Refusal, Refused, refusing
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.trust import Trust, Trusted, read_trust

DEFAULT_CHANNEL = "stable"


def split_spec(spec: str) -> tuple[str, str]:
    """``name@version``, ``name@channel`` or a bare name, which means its stable channel."""
    name, _, selector = spec.partition("@")
    return check_name(name), selector or DEFAULT_CHANNEL


def find(
    remote: Remote, name: str, selector: str, trust: Trust, config: Path, *, fresh: bool = False
) -> tuple[Header | VariantSet, Trusted]:
    """The header or set of a channel, a version or the start of a version, proven.

    Args:
        fresh: require of a channel that its record has an expiry that is not over.

    Raises:
        Refused: it is not what a trusted key signed, or is older than what was seen before.
        AsrbuildError: there is no such version or channel.
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
    published, key = proven(remote, name, version, trust)
    if record is not None:
        require_digest(remote, published, record.header, "the one that the channel was pointed at")
        if isinstance(published, VariantSet):
            remember(remote, record, config, artifacts_of(published))
    return published, key


def proven(
    remote: Remote, name: str, version: str, trust: Trust
) -> tuple[Header | VariantSet, Trusted]:
    """The header or set of this version on the remote, and the trusted signer.

    Raises:
        Refused: it is missing, not signed by a trusted signer, or of another name or version.
    """
    raw = remote.header(name, version)
    if raw is None:
        raise Refused(
            Refusal.FILE_MISSING, f"the remote has no {name} {version}", file=remote.address
        )
    with refusing(remote.address):
        published = parse_published(raw)
        key = check_published(published, trust)
    if (published.name, published.version) != (name, version):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"the remote has {published.name} {published.version} in the place of {name} {version}",
            file=remote.address,
        )
    return published, key


def require_digest(remote: Remote, published: Header | VariantSet, digest: str, which: str) -> None:
    if published.digest != digest:
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"{published.name} {published.version} is not {which}",
            file=remote.address,
        )


def require_artifact(published: Header | VariantSet) -> Header:
    """The header of an artifact; a set is refused.

    Raises:
        AsrbuildError: it is a set.
    """
    if isinstance(published, Header):
        return published
    raise AsrbuildError(
        f"{published.name} {published.version} is a set of artifacts",
        fix=f"name one: {', '.join('@'.join(one) for one in artifacts_of(published))}",
    )


def _means_channel(remote: Remote, name: str, selector: str, config: Path) -> bool:
    """Whether a selector that can be a channel's name is meant as one.

    A word without digits is, even if the channel is gone: that must be noticed. So is a channel
    that was seen before, though a version may begin with the same letters.
    """
    return (
        not any(c.isdigit() for c in selector)
        or (remote.address, name, selector) in seen_channels(config)
        or selector in remote.channels(name)
    )


def whole_version(remote: Remote, name: str, start: str) -> str:
    """The one version on the remote that is ``start`` or begins with it."""
    if remote.header(name, start) is not None:
        return start
    versions = remote.versions(name)
    matching = versions_meant(versions, start)
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(versions[-10:]) or "none"
    raise AsrbuildError(
        f"{start} is the start of {len(matching)} versions of {name}"
        if matching
        else f"the remote has no version {start} of {name}",
        file=remote.address,
        fix=f"the remote has: {known}",
    )


def pointed_versions(
    config: Path, note: Callable[[str], object], *, offline: bool
) -> dict[tuple[str, str], str]:
    """Name and version of everything that channels point at, and which channel does.

    Channels count as they were last seen here, and unless ``offline`` as their remotes show them
    now; ``note`` takes a line about each channel that a remote does not show.
    """
    pointed = dict.fromkeys(seen_versions(config), "a channel pointed at it")
    trust = read_trust(config)
    for address, name, channel in () if offline else seen_channels(config):
        where = f"{name}@{channel} of {address}"
        try:
            remote = open_remote(address)
            record = newest(remote, name, channel, trust)
            published = None if record is None else proven(remote, name, record.version, trust)[0]
        except AsrbuildError as error:
            note(f"{where} is as last seen: {error.message}")
            continue
        if published is None:
            note(f"{where} is as last seen: it has no record now")
        else:
            pointed |= dict.fromkeys(artifacts_of(published), f"{where} points at it")
    return pointed
