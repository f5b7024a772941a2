"""``asrbuild channel``: the signed pointers of a remote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild import terminal
from asrbuild.commands.ship import JsonOption, KeyOption, RemoteHelp, SigstoreOption, signer_of

if TYPE_CHECKING:
    from asrbuild.ship.channels import Record

NameArgument = Annotated[str, typer.Argument(help="The artifact's name.")]
ChannelArgument = Annotated[str, typer.Argument(help="The channel: stable, beta, ...")]
AtOption = Annotated[str, typer.Option("--remote", "--at", help=RemoteHelp)]


def set_(
    name: NameArgument,
    channel: ChannelArgument,
    version: Annotated[str, typer.Argument(help="A version on the remote, or its start.")],
    remote: AtOption,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at a version that is on the remote.

    Example: asrbuild channel set demo stable 1.0.0 --remote s3://models/asr
    """
    from asrbuild.ship.channels import remember
    from asrbuild.ship.keys import config_root
    from asrbuild.ship.push import set_channel
    from asrbuild.ship.remote import open_remote
    from asrbuild.ship.trust import read_trust

    config = config_root()
    signer = signer_of(key, sigstore, config)
    place = open_remote(remote)
    trust = {**read_trust(config), **signer.trust}
    record = set_channel(place, name, channel, version, signer=signer, trust=trust)
    remember(place, record, config)
    _tell(record, as_json)


def rollback(
    name: NameArgument,
    channel: ChannelArgument,
    remote: AtOption,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    as_json: JsonOption = False,
) -> None:
    """Point a channel at the version it had before, by a new signed record.

    Example: asrbuild channel rollback demo stable --remote s3://models/asr
    """
    from asrbuild.ship import channels
    from asrbuild.ship.keys import config_root
    from asrbuild.ship.names import check_channel, check_name
    from asrbuild.ship.remote import open_remote
    from asrbuild.ship.trust import read_trust

    check_name(name)
    check_channel(channel)
    config = config_root()
    signer = signer_of(key, sigstore, config)
    place = open_remote(remote)
    trust = {**read_trust(config), **signer.trust}
    record = channels.rollback(place, name, channel, signer=signer, trust=trust)
    place.refresh()
    channels.remember(place, record, config)
    _tell(record, as_json)


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

    from asrbuild.ship import channels
    from asrbuild.ship.keys import config_root
    from asrbuild.ship.names import check_channel, check_name
    from asrbuild.ship.remote import open_remote
    from asrbuild.ship.trust import read_trust

    check_name(name)
    check_channel(channel)
    trust = read_trust(config_root())
    place = open_remote(remote)
    records = channels.history(place, name, channel, trust)[::-1]
    if not records:
        raise channels.no_channel(place, name, channel)
    if as_json:
        terminal.say_json([asdict(record) for record in records])
        return
    from rich.table import Table

    table = Table("record", "version", "why", "when", "signed by")
    for record in records:
        table.add_row(
            str(record.counter), record.version, record.why, record.time,
            record.signer,
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
