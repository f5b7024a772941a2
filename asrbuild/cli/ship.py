"""``asrbuild ship``: signs an artifact, or a set of artifacts, and uploads it to a remote."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.cli.options import (
    REMOTE_HELP,
    ArtifactsOption,
    ExpiresOption,
    JsonOption,
    KeyOption,
    OtherSignerOption,
    SigstoreOption,
    UnprovenOption,
    expiry_seconds,
)

if TYPE_CHECKING:
    from asrbuild.handover.ship.push import Shipped


def ship(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT",
            help="A name, name/version, name/start-of-version, or a path; several: a set.",
        ),
    ],
    dest: Annotated[
        str,
        typer.Argument(
            metavar="REMOTE", help=f"{REMOTE_HELP} Or a file name in .asrb: one bundle."
        ),
    ],
    channel: Annotated[
        str | None, typer.Option(help="Then point this channel at it: stable, beta, ...")
    ] = None,
    set_name: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="The name that the set is pulled as."),
    ] = None,
    other_signer: OtherSignerOption = False,
    expires: ExpiresOption = None,
    allow_unproven: UnprovenOption = False,
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an artifact and put it on a remote, where a version is never overwritten.

    Stopped at any moment, it leaves the remote readable, and run again it continues. With
    --sigstore you sign as an identity instead of with a key: that of $SIGSTORE_ID_TOKEN, of the CI
    job, or of the account that signs in in the browser. Sigstore publishes that identity for good.

    Several artifacts and --set make a set of variants, of which `asrbuild pull NAME --os iOS17`
    takes the first that runs there: name the preferred one first.

    Examples:
        asrbuild ship demo-static-mlprogram remote --channel beta
        asrbuild ship demo-dynamic-mlprogram demo-static-mlprogram remote \\
          --set demo
    """
    from asrbuild.artifact.lookup import resolve
    from asrbuild.base.places import artifacts_root
    from asrbuild.cli.bundle import bundle
    from asrbuild.cli.transfers import shown_transfers
    from asrbuild.handover.ship.formats.frame import names_bundle
    from asrbuild.handover.ship.publish import (
        Conditions,
        open_publisher,
        publish,
        require_publishable,
    )
    from asrbuild.handover.ship.signing.keys import config_root

    if names_bundle(dest):
        _refuse_for_bundle(("--channel", channel), ("--set", set_name), ("--expires", expires))
        bundle(names, Path(dest), key, sigstore, artifacts, as_json)
        return
    if len(names) > 1 and set_name is None:
        raise MisuseError(
            f"{len(names)} artifacts are shipped as a set, which requires a name",
            key="--set",
            fix="name it, --set demo; or ship one at a time",
        )
    if expires is not None and channel is None:
        raise MisuseError("--expires requires --channel", fix="name the channel, --channel stable")
    conditions = Conditions(expiry_seconds(expires), other_signer, allow_unproven)
    paths = [resolve(artifacts or artifacts_root(), name) for name in names]
    require_publishable(paths, channel, conditions)
    note = partial(terminal.say, err=True)
    publisher = open_publisher(dest, key, sigstore, config_root(), note)
    with shown_transfers() as notify:
        shipped = publish(
            publisher,
            paths,
            set_name=set_name,
            channel=channel,
            conditions=conditions,
            notify=notify,
        )
    if as_json:
        terminal.say_json(asdict(shipped))
    else:
        _print(shipped, dest, len(paths) if set_name is not None else None)


def _refuse_for_bundle(*options: tuple[str, str | None]) -> None:
    for option, value in options:
        if value is not None:
            raise AsrbuildError(
                f"a bundle file has no {option[2:]}", key=option, fix="ship to a remote"
            )


def _print(shipped: Shipped, dest: str, set_of: int | None) -> None:
    """Prints the result; ``set_of``: the size of the set, None for a single artifact."""
    sent = f"{shipped.uploaded} files with {shipped.bytes:,} bytes sent"
    how = f"shipped, {sent}"
    if shipped.already:
        how = f"was there already{f', {sent} again' if shipped.uploaded else ''}"
    what = shipped.name if set_of is None else f"{shipped.name}, a set of {set_of},"
    terminal.say(f"{what} {shipped.version}: {how}, signed by {shipped.signer}")
    if shipped.channel:
        terminal.say(f"{shipped.name}@{shipped.channel} points at it (record {shipped.counter})")
    spec = f"{shipped.name}@{shipped.channel or shipped.version}"
    system = "" if set_of is None else " --os iOS17"
    terminal.say(f"asrbuild pull {spec} --remote {shlex.quote(dest)}{system}")
