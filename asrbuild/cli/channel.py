"""``asrbuild channel``: the signed pointers of a remote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.cli.options import (
    ExpiresOption,
    JsonOption,
    KeyOption,
    OtherSignerOption,
    RemoteHelp,
    SigstoreOption,
    UnprovenOption,
)
from asrbuild.cli.ship import seconds_of, signer_of

if TYPE_CHECKING:
    from asrbuild.handover.ship.channels.move import Require
    from asrbuild.handover.ship.channels.record import Record
    from asrbuild.handover.ship.remotes.remote import Remote
    from asrbuild.handover.ship.signing.envelope import AnySigner
    from asrbuild.handover.ship.signing.trust import Trust

NameArgument = Annotated[str, typer.Argument(help="The artifact's name.")]
ChannelArgument = Annotated[str, typer.Argument(help="The channel: stable, beta, ...")]
AtOption = Annotated[str, typer.Option("--remote", "--at", help=RemoteHelp)]


def set_(
    name: NameArgument,
    channel: ChannelArgument,
    version: Annotated[str, typer.Argument(help="A version on the remote, or its start.")],
    remote: AtOption,
    other_signer: OtherSignerOption = False,
    allow_unproven: UnprovenOption = False,
    expires: ExpiresOption = None,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at a version that is on the remote, if it is wholly proven.

    With --expires it is signed anew also where it points there already.

    Example: asrbuild channel set demo stable 1.0.0 --remote s3://models/asr
    """
    from asrbuild.handover.ship.push import set_channel

    seconds = seconds_of(expires)
    to = _moving(name, channel, remote, key, sigstore)
    record = set_channel(
        to.remote, name, channel, version, signer=to.signer, trust=to.trust, seconds=seconds,
        other_signer=other_signer, require=to.require(allow_unproven),
    )  # fmt: skip
    to.moved(record, as_json)


def rollback(
    name: NameArgument,
    channel: ChannelArgument,
    remote: AtOption,
    other_signer: OtherSignerOption = False,
    allow_unproven: UnprovenOption = False,
    expires: ExpiresOption = None,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at the version it had before, by a new signed record.

    Example: asrbuild channel rollback demo stable --remote s3://models/asr
    """
    from asrbuild.handover.ship.channels import move

    seconds = seconds_of(expires)
    to = _moving(name, channel, remote, key, sigstore)
    record = move.rollback(
        to.remote, name, channel, signer=to.signer, trust=to.trust, seconds=seconds,
        other_signer=other_signer, require=to.require(allow_unproven),
    )  # fmt: skip
    to.moved(record, as_json)


def rotate(
    name: NameArgument,
    channel: ChannelArgument,
    remote: AtOption,
    to_key: Annotated[str, typer.Option("--to", help="The key that signs it from now on.")],
    expires: ExpiresOption = None,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Hand a channel over to another key, by a record that both sign.

    Who trusts the key that signed it until now trusts the other one from then on, and takes no
    newer records of the first.

    Example: asrbuild channel rotate demo stable --key old --to new --remote s3://models/asr
    """
    from asrbuild.handover.ship.channels import move
    from asrbuild.handover.ship.signing.keys import config_root, find_signer

    seconds = seconds_of(expires)
    new = find_signer(to_key, config_root())
    to = _moving(name, channel, remote, key, sigstore)
    record = move.rotate(
        to.remote, name, channel, signer=to.signer, to=new, trust=to.trust, seconds=seconds
    )
    to.moved(record, as_json)


@dataclass(frozen=True)
class _Move:
    """What a channel is moved with."""

    remote: Remote
    signer: AnySigner
    trust: Trust
    config: Path

    def require(self, allow_unproven: bool) -> Require:
        """What the channel may point at: without ``--allow-unproven`` what is wholly proven."""
        from asrbuild.handover.ship.channels.move import anything
        from asrbuild.handover.ship.push import require_proven_there

        return (
            anything if allow_unproven else partial(require_proven_there, self.remote, self.trust)
        )

    def moved(self, record: Record, as_json: bool) -> None:
        """Brings the remote's index up to date, remembers the record and prints it."""
        from asrbuild.handover.ship.channels.seen import remember

        self.remote.refresh()
        remember(self.remote, record, self.config)
        _tell(record, as_json)


def _moving(name: str, channel: str, address: str, key: str | None, sigstore: bool) -> _Move:
    """Looks whether the channel still says what it was seen to say here, before it is moved."""
    from asrbuild.handover.ship.channels.seen import require_seen
    from asrbuild.handover.ship.names import check_channel, check_name
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    check_name(name)
    check_channel(channel)
    config = config_root()
    signer = signer_of(key, sigstore, config)
    remote = open_remote(address)
    trust = {**read_trust(config), **signer.trust}
    require_seen(remote, name, channel, trust, config)
    return _Move(remote, signer, trust, config)


def history(
    name: NameArgument,
    channel: ChannelArgument,
    remote: AtOption,
    as_json: JsonOption = False,
) -> None:
    """List what a channel pointed at, newest first; every record's signature is checked.

    Example: asrbuild channel history demo stable --remote s3://models/asr
    """
    from dataclasses import asdict

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
        terminal.say_json([asdict(record) for record in records])
        return
    from rich.table import Table

    table = Table("record", "version", "why", "when", "expires", "signed by")
    for record in records:
        table.add_row(
            str(record.counter), record.version, record.why, record.time,
            record.expires or "", record.signer,
        )  # fmt: skip
    terminal.console().print(table)


def _tell(record: Record, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        terminal.say_json(asdict(record))
        return
    terminal.say(
        f"{record.name}@{record.channel} points at {record.version} "
        f"(record {record.counter}, {record.why}, signed by {record.signer})"
    )
