"""``asrbuild channel``: the signed pointers of a remote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.tables import show_rows
from asrbuild.cli.options import (
    ExpiresOption,
    JsonOption,
    KeyOption,
    OtherSignerOption,
    RemoteOption,
    SigstoreOption,
    UnprovenOption,
    expiry_seconds,
)

if TYPE_CHECKING:
    from asrbuild.handover.ship.channels.move import Accept
    from asrbuild.handover.ship.channels.record import Record
    from asrbuild.handover.ship.publish import Publisher

NameArgument = Annotated[str, typer.Argument(help="The artifact's name.")]
ChannelArgument = Annotated[str, typer.Argument(help="The channel: stable, beta, ...")]


def set_(
    name: NameArgument,
    channel: ChannelArgument,
    version: Annotated[str, typer.Argument(help="A version on the remote, or its start.")],
    remote: RemoteOption,
    other_signer: OtherSignerOption = False,
    allow_unproven: UnprovenOption = False,
    require: Annotated[
        Path | None,
        typer.Option(metavar="POLICY", help="The evidence of devices that it must have: YAML."),
    ] = None,
    without_evidence: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Move it all the same; the reason is signed."),
    ] = None,
    expires: ExpiresOption = None,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at a version that is on the remote, if it is wholly proven.

    With --require, evidence on the remote must satisfy the policy; the record names both, and from
    then on the channel moves on evidence alone. With --expires a new record is signed even if the
    channel points there already.

    Examples:
        asrbuild channel set demo-static-mlprogram beta 1.0.0 --remote remote
    """
    from asrbuild.handover.ship.publish import Conditions, move_to

    policy = _policy(require, without_evidence)
    publisher = _publisher(name, channel, remote, key, sigstore)
    accept = None if policy is None else policy(publisher)
    conditions = Conditions(expiry_seconds(expires), other_signer, allow_unproven, accept)
    _print(move_to(publisher, name, channel, version, conditions), as_json)


def _policy(require: Path | None, reason: str | None) -> Callable[[Publisher], Accept] | None:
    """Checks ``--require`` and ``--without-evidence``; returns the policy's check, or None."""
    from asrbuild.handover.ship.channels.record import MAX_REASON, is_reason

    if require is None and reason is None:
        return None
    if reason is not None and not is_reason(reason):
        raise AsrbuildError(
            "this is not a reason that can be signed",
            key="--without-evidence",
            fix=f"write one line of at most {MAX_REASON} characters",
        )
    from asrbuild.handover.evidence.policy import accept, read_policy

    policy = None if require is None else read_policy(require)
    return lambda by: accept(by.remote, by.trust, policy, reason)


def rollback(
    name: NameArgument,
    channel: ChannelArgument,
    remote: RemoteOption,
    other_signer: OtherSignerOption = False,
    allow_unproven: UnprovenOption = False,
    expires: ExpiresOption = None,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at the version it had before, by a new signed record.

    Examples:
        asrbuild channel rollback demo-static-mlprogram beta --remote remote
    """
    from asrbuild.handover.ship.publish import Conditions, move_back

    conditions = Conditions(expiry_seconds(expires), other_signer, allow_unproven)
    publisher = _publisher(name, channel, remote, key, sigstore)
    _print(move_back(publisher, name, channel, conditions), as_json)


def rotate(
    name: NameArgument,
    channel: ChannelArgument,
    remote: RemoteOption,
    to_key: Annotated[
        str, typer.Option("--to", metavar="KEY", help="The key that signs it from now on.")
    ],
    expires: ExpiresOption = None,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Hand a channel over to another key, by a record that both sign.

    A reader that trusts the present key trusts the new one from then on, and refuses newer records
    of the present one.

    Examples:
        asrbuild channel rotate demo-static-mlprogram beta --to release \\
          --remote remote
    """
    from asrbuild.handover.ship.publish import hand_over
    from asrbuild.handover.ship.signing.keys import config_root, find_signer

    seconds = expiry_seconds(expires)
    new = find_signer(to_key, config_root())
    publisher = _publisher(name, channel, remote, key, sigstore)
    _print(hand_over(publisher, name, channel, new, seconds), as_json)


def _publisher(name: str, channel: str, address: str, key: str | None, sigstore: bool) -> Publisher:
    """Opens the remote and the signer, after a check of ``name`` and ``channel``."""
    from asrbuild.handover.ship.names import check_channel, check_name
    from asrbuild.handover.ship.publish import open_publisher
    from asrbuild.handover.ship.signing.keys import config_root

    check_name(name)
    check_channel(channel)
    return open_publisher(address, key, sigstore, config_root(), partial(terminal.say, err=True))


def history(
    name: NameArgument,
    channel: ChannelArgument,
    remote: RemoteOption,
    as_json: JsonOption = False,
) -> None:
    """List the versions that a channel pointed at, newest first; every signature is checked.

    Examples:
        asrbuild channel history demo-static-mlprogram beta --remote remote
    """
    from asrbuild.handover.ship.channels import chain
    from asrbuild.handover.ship.names import check_channel, check_name
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    check_name(name)
    check_channel(channel)
    trust = read_trust(config_root())
    place = open_remote(remote)
    records = chain.history(place, name, channel, trust)[::-1]
    if not records:
        raise chain.no_channel(place, name, channel)
    if as_json:
        terminal.say_json([_as_json(record) for record in records])
        return
    rows = ((r.counter, r.version, _why(r), r.time, r.expires or "", r.signer) for r in records)
    show_rows("", ("record", "version", "why", "when", "expires", "signed by"), rows)


def _as_json(record: Record) -> dict[str, Any]:
    """The fields of a record; ``evidence`` is absent if no policy required any."""
    fields = asdict(record)
    if fields["evidence"] is None:
        del fields["evidence"]
    return fields


def _why(record: Record) -> str:
    """The reason for a channel's move, and its evidence."""
    found = record.evidence
    if found is None:
        return record.why
    policy = "" if found.policy is None else f", policy {found.policy[:12]}"
    if found.without is not None:
        return f"{record.why}{policy}, without evidence: {found.without}"
    return f"{record.why}{policy}, {len(found.digests)} runs"


def _print(record: Record, as_json: bool) -> None:
    if as_json:
        terminal.say_json(_as_json(record))
        return
    terminal.say(
        f"{record.name}@{record.channel} points at {record.version} "
        f"(record {record.counter}, {_why(record)}, signed by {record.signer})"
    )
