"""``asrbuild pull``: fetches an artifact from a remote or a bundle into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.cli.options import (
    ArtifactsOption,
    JsonOption,
    MaxSizeOption,
    OptionalRemoteOption,
    SystemOption,
    largest_package,
)

if TYPE_CHECKING:
    from asrbuild.handover.ship.pull import Pulled
    from asrbuild.handover.ship.signing.trust import Trusted


def pull(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT",
            help="NAME@VERSION, NAME@CHANNEL, NAME (its stable), or a .asrb file.",
        ),
    ],
    remote: OptionalRemoteOption = None,
    system: SystemOption = None,
    max_size: MaxSizeOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Require a channel's record that has not expired.")
    ] = False,
    remote_id: Annotated[
        str | None,
        typer.Option(help="For a mirror: the original's identity in its channels' records."),
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an artifact into your store, if a key you trust signed it, byte for byte.

    Content that is not as it was signed is refused with its reason, and none of it is kept. Of a
    set or a bundle of variants, --os takes the one for that device; without it all are taken. A
    single artifact that does not run there is not fetched.

    Examples:
        asrbuild pull demo-static-mlprogram@beta --remote remote
        asrbuild pull demo.asrb --os iOS17
    """
    from asrbuild.base.places import artifacts_root
    from asrbuild.cli.transfers import shown_transfers
    from asrbuild.handover.ship.formats.frame import SUFFIX
    from asrbuild.handover.ship.pull import pull as pull_from, pull_file
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    max_bytes = largest_package(system, max_size)
    if remote is None and (fresh or remote_id is not None):
        raise MisuseError("--fresh and --remote-id require a remote", fix="name it with --remote")
    config = config_root()
    root = artifacts or artifacts_root()
    trust = read_trust(config)
    if remote is None:
        if not spec.endswith(SUFFIX) and not Path(spec).exists():
            raise AsrbuildError(
                f"{spec} is not a {SUFFIX} file, and no remote is named",
                key="--remote",
                fix="name the remote with --remote",
            )
        pulled, several = pull_file(
            Path(spec), root, trust=trust, system=system, max_bytes=max_bytes
        )
    else:
        with shown_transfers() as notify:
            pulled = pull_from(
                spec,
                open_remote(remote, remote_id),
                root,
                trust=trust,
                config=config,
                notify=notify,
                system=system,
                max_bytes=max_bytes,
                fresh=fresh,
                note=lambda line: terminal.say(f"note: {line}", err=True),
            )
        several = pulled[0].of_set is not None
        _print_new_trust(trust, read_trust(config))
    _print(pulled, as_json, as_list=several and system is None)


def _print_new_trust(before: Mapping[str, Trusted], now: Mapping[str, Trusted]) -> None:
    for keyid, one in now.items():
        if keyid not in before:
            terminal.say(
                f"trusted from now on, because its channel was handed over to it: {one.label}"
                f" {keyid}",
                err=True,
            )


def _print(pulled: list[Pulled], as_json: bool, *, as_list: bool) -> None:
    """Prints one artifact as an object or as lines; all variants as a list of objects."""
    if as_json:
        rows = [asdict(one) | {"path": str(one.path)} for one in pulled]
        terminal.say_json(rows if as_list else rows[0])
        return
    for one in pulled:
        how = "was here already, whole" if one.already else f"{one.bytes:,} bytes"
        of_set = "" if one.of_set is None else f", of {one.of_set}"
        terminal.say(f"{one.name} {one.version}: {how}, signed by {one.signer}{of_set}")
        terminal.say(str(one.path))
