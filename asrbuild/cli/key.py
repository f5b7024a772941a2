"""``asrbuild key``: the keys that sign bundles, and those that are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def new(
    name: Annotated[str, typer.Argument(help="What to call the key.")] = "default",
) -> None:
    """Make a key pair to sign with; it is trusted here at once.

    The private key stays in your configuration folder, readable by you alone. Hand the public key
    to those who pull.

    Example: asrbuild key new release
    """
    from asrbuild.handover.ship.signing.keys import config_root, new_key

    config = config_root()
    signer = new_key(name, config)
    terminal.say(f"key {signer.name} {signer.keyid}")
    terminal.say(f"public key, to hand out: {config / 'keys' / f'{name}.pub'}")


def ls(as_json: JsonOption = False) -> None:
    """List the keys you can sign with, and the keys and identities you trust.

    Example: asrbuild key ls
    """
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import TrustedIdentity, read_trust

    config = config_root()
    own = {path.stem for path in (config / "keys").glob("*.key")}
    rows = []
    for one in read_trust(config).values():
        row = {"label": one.label, "keyid": one.keyid, "can_sign": False}
        if isinstance(one, TrustedIdentity):
            rows.append(row | {"identity": one.identity, "issuer": one.issuer})
        else:
            rows.append(row | {"can_sign": one.label in own})
    if as_json:
        terminal.say_json({"trusted": rows, "private": sorted(own)})
        return
    if not rows and not own:
        terminal.say(f"there are no keys in {config}; make one with `asrbuild key new`")
        return
    from rich.table import Table

    table = Table("label")
    table.add_column("id", overflow="fold")
    table.add_column("", overflow="fold")
    for row in rows:
        what = f"{row['identity']} of {row['issuer']}" if "identity" in row else ""
        table.add_row(
            str(row["label"]), str(row["keyid"]),
            what or "signs" * bool(row["can_sign"]),
        )  # fmt: skip
    for name in sorted(own - {str(row["label"]) for row in rows if "identity" not in row}):
        table.add_row(name, "", "signs, not trusted")
    terminal.console().print(table)


def trust(
    public: Annotated[
        Path | None, typer.Argument(help="A .pub file of `asrbuild key new`.")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="Instead of a key: who signs with --sigstore, an e-mail or address."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="With --identity: who says that it is they, an address.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="What to call it; else its own name.")] = None,
) -> None:
    """Believe what is signed with a key, or by an identity. Compare it with its owner first.

    An identity is believed only as exactly this issuer certifies it; there are no patterns.

    Example: asrbuild key trust release.pub
    Example: asrbuild key trust --identity ana@example.com --issuer https://accounts.google.com
    """
    from asrbuild.base.errors import AsrbuildError, MisuseError
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.sigstore import refresh
    from asrbuild.handover.ship.signing.trust import read_key_file, trust_identity, trust_key

    if public is not None and identity is None and issuer is None:
        key = trust_key(read_key_file(public), label, config_root())
        terminal.say(f"trusted: {key.label} {key.keyid}")
        return
    if public is not None or identity is None or issuer is None:
        raise MisuseError(
            "a key or an identity is trusted",
            fix="give a .pub file, or both --identity and --issuer",
        )
    believed = trust_identity(identity, issuer, label, config_root())
    terminal.say(f"trusted: {believed.identity} of {believed.issuer} {believed.keyid}")
    terminal.say("fetching Sigstore's keys", err=True)
    try:
        refresh()
    except AsrbuildError as error:
        terminal.say(f"warning: its signatures may not be proven yet: {error}", err=True)


def distrust(
    who: Annotated[str, typer.Argument(help="The label, the identity, or the start of the id.")],
) -> None:
    """Stop believing a key or an identity.

    Example: asrbuild key distrust release
    """
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import distrust as forget

    gone = forget(who, config_root())
    terminal.say(f"no longer trusted: {gone.label} {gone.keyid}")
