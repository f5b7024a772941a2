"""Publishing from this machine: sign, ship, move channels, and remember where they point now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.ship.channels import move
from asrbuild.handover.ship.channels.chain import newest
from asrbuild.handover.ship.channels.record import Record
from asrbuild.handover.ship.channels.seen import remember, require_seen
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.formats.sets import VariantSet
from asrbuild.handover.ship.gates import require_proven, require_proven_on
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.push import Shipped, ship, ship_set
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import NotifyFile, Remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.signer import AnySigner, choose_signer
from asrbuild.handover.ship.signing.trust import Trust, read_trust


@dataclass(frozen=True)
class Publisher:
    """A remote, the signer who changes it, and whom this machine trusts, the signer included."""

    remote: Remote
    signer: AnySigner
    trust: Trust
    config: Path


@dataclass(frozen=True)
class Conditions:
    """Conditions of moving a channel: the versions it may point at, and for how long.

    Attributes:
        seconds: how long the record is valid; None: it does not expire.
        other_signer: also at a version that only another signer signed.
        unproven: also at a version that is not wholly proven.
        accept: returns the evidence on which it may point at a version; None: none is asked for.
    """

    seconds: float | None = None
    other_signer: bool = False
    unproven: bool = False
    accept: move.Accept | None = None


def open_publisher(
    address: str, key: str | None, sigstore: bool, config: Path, note: Callable[[str], object]
) -> Publisher:
    """The remote at an address and who signs, see :func:`choose_signer`."""
    remote = open_remote(address)
    signer = choose_signer(key, sigstore, config, note)
    return Publisher(remote, signer, {**read_trust(config), **signer.trust}, config)


def require_publishable(
    artifacts: Sequence[Path], channel: str | None, conditions: Conditions
) -> None:
    """Refuses artifacts that a channel must not point at, before a remote is asked anything."""
    if channel is not None and not conditions.unproven:
        for artifact in artifacts:
            require_proven(read_manifest(artifact), artifact)


def publish(
    by: Publisher,
    artifacts: Sequence[Path],
    *,
    set_name: str | None,
    channel: str | None,
    conditions: Conditions,
    notify: NotifyFile = nullcontext,
) -> Shipped:
    """Ships one artifact, or several as a set, and points a channel at it.

    Args:
        artifacts: one, or with ``set_name`` one or more, the preferred one first.
        set_name: the name of the set; None: no set.
        channel: the channel to point at it; None: none.

    Raises:
        AsrbuildError: see :func:`ship` and :func:`ship_set`; or the channel lacks the record
            that was last seen here.
    """
    if channel is not None:
        name = set_name or read_manifest(artifacts[0]).name
        require_seen(by.remote, name, channel, by.trust, by.config)
    if set_name is None:
        send = partial(ship, artifacts[0], by.remote)
    else:
        send = partial(ship_set, artifacts, by.remote, set_name)
    shipped = send(
        signer=by.signer,
        trust=by.trust,
        channel=channel,
        seconds=conditions.seconds,
        other_signer=conditions.other_signer,
        notify=notify,
    )
    if channel and (record := newest(by.remote, shipped.name, channel, by.trust)):
        remember(by.remote, record, by.config)
    return shipped


def move_to(by: Publisher, name: str, channel: str, version: str, conditions: Conditions) -> Record:
    """Points a channel at a version on the remote, or at the one whose start ``version`` is."""
    other, gate = conditions.other_signer, _proof_gate(by, conditions)
    step = partial(
        set_channel,
        version=version,
        other_signer=other,
        require=gate,
        accept=conditions.accept,
    )
    return _moved(by, name, channel, conditions.seconds, step)


def move_back(by: Publisher, name: str, channel: str, conditions: Conditions) -> Record:
    """Points a channel at the version that it had before the present one."""
    other, gate = conditions.other_signer, _proof_gate(by, conditions)
    step = partial(move.rollback, other_signer=other, require=gate)
    return _moved(by, name, channel, conditions.seconds, step)


def hand_over(by: Publisher, name: str, channel: str, to: Signer, seconds: float | None) -> Record:
    """Hands a channel over to another key, which signs the record as well."""
    return _moved(by, name, channel, seconds, partial(move.rotate, to=to))


def _moved(
    by: Publisher, name: str, channel: str, seconds: float | None, step: Callable[..., Record]
) -> Record:
    """Moves a channel that still has the record that was last seen here, and remembers the new one.

    ``step``: adds the record that moves the channel.
    """
    require_seen(by.remote, name, channel, by.trust, by.config)
    record = step(by.remote, name, channel, signer=by.signer, trust=by.trust, seconds=seconds)
    by.remote.refresh()
    remember(by.remote, record, by.config)
    return record


def _proof_gate(by: Publisher, conditions: Conditions) -> move.Require:
    """Refuses versions that are not wholly proven, unless ``conditions`` allows them."""

    def require(published: Header | VariantSet) -> None:
        require_proven_on(by.remote, by.trust, published)

    return move.anything if conditions.unproven else require
