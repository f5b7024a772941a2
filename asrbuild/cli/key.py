"""``asrbuild key``: the user's signing keys, and the trusted keys and identities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import JsonOption


def new(
    name: Annotated[str, typer.Argument(help="The key's name.")] = "default",
) -> None:
    """Make a key pair to sign with; it is trusted here at once.

    The private key stays in your configuration folder, readable by you alone. Hand the public key
    to those who pull.

    Examples:
        asrbuild key new
        asrbuild key new release
    """
    from asrbuild.handover.ship.signing.keys import config_root, new_key

    config = config_root()
    signer = new_key(name, config)
    terminal.say(f"key {signer.name} {signer.keyid}")
    terminal.say(f"public key, to hand out: {config / 'keys' / f'{name}.pub'}")


def ls(as_json: JsonOption = False) -> None:
    """List the keys you can sign with, and the keys and identities you trust.

    Examples:
        asrbuild key ls
    """
    from asrbuild.handover.ship.signing.keys import config_root, key_names
    from asrbuild.handover.ship.signing.trust import TrustedIdentity, read_trust

    config = config_root()
    own = set(key_names(config))
    rows: list[dict[str, str | bool]] = []
    for one in read_trust(config).values():
        row: dict[str, str | bool] = {"label": one.label, "keyid": one.keyid, "can_sign": False}
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
    table = folding("", "label", "id", "")
    for row in rows:
        use = "signs" if row["can_sign"] else ""
        if "identity" in row:
            use = f"{row['identity']} of {row['issuer']}"
        table.add_row(str(row["label"]), str(row["keyid"]), use)
    for name in sorted(own - {str(row["label"]) for row in rows if "identity" not in row}):
        table.add_row(name, "", "signs, not trusted")
    show(table)


def trust(
    public: Annotated[
        Path | None, typer.Argument(metavar="FILE.pub", help="A .pub file of `asrbuild key new`.")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="Instead of a key: an identity that signs with --sigstore."),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(help="With --identity: the https address of the issuer that certifies it."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The name to show; else the key's or identity's own.")
    ] = None,
) -> None:
    """Trust what a key or an identity signs. Compare it with its owner first.

    An identity is trusted only as exactly this issuer certifies it; there are no patterns.

    Examples:
        asrbuild key trust release.pub
        asrbuild key trust --identity ana@example.com \\
          --issuer https://accounts.google.com
    """
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.sigstore import refresh
    from asrbuild.handover.ship.signing.trust import read_key_file, trust_identity, trust_key

    if public is not None and identity is None and issuer is None:
        key = trust_key(read_key_file(public), label, config_root())
        terminal.say(f"trusted: {key.label} {key.keyid}")
        return
    if public is not None or identity is None or issuer is None:
        raise MisuseError(
            "trust requires either a key or an identity",
            fix="give a .pub file, or both --identity and --issuer",
        )
    trusted = trust_identity(identity, issuer, label, config_root())
    terminal.say(f"trusted: {trusted.identity} of {trusted.issuer} {trusted.keyid}")
    terminal.say("fetching Sigstore's keys", err=True)
    try:
        refresh()
    except AsrbuildError as error:
        terminal.say(f"warning: its signatures may not be provable yet: {error}", err=True)


def distrust(
    who: Annotated[
        str, typer.Argument(metavar="KEY", help="The label, the identity, or the start of the id.")
    ],
) -> None:
    """Stop trusting a key or an identity.

    Examples:
        asrbuild key distrust release
    """
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import distrust as remove_trust

    removed = remove_trust(who, config_root())
    terminal.say(f"no longer trusted: {removed.label} {removed.keyid}")
