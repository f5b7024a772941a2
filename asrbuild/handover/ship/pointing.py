"""Pointing a channel at a version on a remote, whose signature is proven first."""

from __future__ import annotations

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels import move
from asrbuild.handover.ship.channels.record import Accepted, Record
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.formats.sets import VariantSet
from asrbuild.handover.ship.lookup import proven, whole_version
from asrbuild.handover.ship.names import check_channel, check_name, check_version
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust


def set_channel(
    remote: Remote,
    name: str,
    channel: str,
    version: str,
    *,
    signer: AnySigner,
    trust: Trust,
    seconds: float | None = None,
    other_signer: bool = False,
    require: move.Require = move.anything,
    accept: move.Accept | None = None,
) -> Record:
    """Points a channel at a version that is on the remote.

    Args:
        version: a version, or the start of one.
        seconds: how long the record is valid; None: it does not expire.
        other_signer: also accept a version that only another signer signed.
        require: raises where the channel must not point at this artifact or set.
        accept: likewise, and returns the evidence on which it may; None: none is asked for.
    """
    check_name(name)
    check_channel(channel)
    whole = whole_version(remote, name, check_version(version))
    published, _ = proven(remote, name, whole, trust)
    require(published)
    accepted = None if accept is None else accept(published)
    record = point_at(remote, published, channel, signer, trust, seconds, other_signer, accepted)
    remote.refresh()
    return record


def point_at(
    remote: Remote,
    published: Header | VariantSet,
    channel: str,
    signer: AnySigner,
    trust: Trust,
    seconds: float | None,
    other_signer: bool,
    accepted: Accepted | None = None,
) -> Record:
    """Adds the record that points the channel at an artifact or set; its proof is not checked.

    Raises:
        AsrbuildError: only another signer signed it and ``other_signer`` is false, or a clean-up
            has removed it; see also :func:`asrbuild.handover.ship.channels.move.point`.
    """
    if not other_signer:
        move.require_own(remote, published, signer, trust, "the channel is not moved")
    record = move.point(
        remote,
        published.name,
        channel,
        published.version,
        published.digest,
        signer=signer,
        trust=trust,
        seconds=seconds,
        accepted=accepted,
    )
    require_present(remote, published.name, published.version)
    return record


def require_present(remote: Remote, name: str, version: str) -> None:
    """Refuses a version that a clean-up has removed meanwhile.

    To be called after a pointer to it was written: a clean-up that runs from then on keeps it.
    """
    if remote.header(name, version) is None:
        raise AsrbuildError(
            f"a clean-up of the remote has removed {name} {version} meanwhile",
            file=remote.address,
            fix="ship it again",
        )
