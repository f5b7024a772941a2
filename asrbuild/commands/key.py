"""``asrbuild key``: the keys that sign bundles, and those that are believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def new(
    name: Annotated[str, typer.Argument(help="What to call the key.")] = "default",
) -> None:
    """Make a key pair to sign with; it is trusted here at once.

    The private key stays in your configuration folder, readable by you alone. Hand the public key
    to those who pull.

    Example: asrbuild key new release
    """
    from asrbuild.ship.keys import config_root, new_key

    config = config_root()
    signer = new_key(name, config)
    typer.echo(f"key {signer.name} {signer.keyid}")
    typer.echo(f"public key, to hand out: {config / 'keys' / f'{name}.pub'}")


def ls(as_json: JsonOption = False) -> None:
    """List the keys you can sign with and the keys you trust.

    Example: asrbuild key ls
    """
    from asrbuild.ship.keys import config_root, trusted_keys

    config = config_root()
    own = {path.stem for path in (config / "keys").glob("*.key")}
    rows = [
        {"label": key.label, "keyid": key.keyid, "can_sign": key.label in own}
        for key in trusted_keys(config).values()
    ]
    if as_json:
        typer.echo(json.dumps({"trusted": rows, "private": sorted(own)}, indent=2))
        return
    if not rows and not own:
        typer.echo(f"there are no keys in {config}; make one with `asrbuild key new`")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("label")
    table.add_column("key id", overflow="fold")
    table.add_column("")
    for row in rows:
        table.add_row(escape(str(row["label"])), str(row["keyid"]), "signs" * bool(row["can_sign"]))
    for name in sorted(own - {str(row["label"]) for row in rows}):
        table.add_row(escape(name), "", "signs, not trusted")
    Console().print(table)


def trust(
    public: Annotated[Path, typer.Argument(help="A .pub file of `asrbuild key new`.")],
    label: Annotated[str | None, typer.Option(help="What to call it; else its own name.")] = None,
) -> None:
    """Believe what is signed with a key. Compare its id with its owner first.

    Example: asrbuild key trust release.pub
    """
    from asrbuild.ship.keys import config_root, read_key_file, trust_key

    key = trust_key(read_key_file(public), label, config_root())
    typer.echo(f"trusted: {key.label} {key.keyid}")


def distrust(
    key: Annotated[str, typer.Argument(help="The label, or the start of the key id.")],
) -> None:
    """Stop believing a key.

    Example: asrbuild key distrust release
    """
    from asrbuild.ship.keys import config_root, distrust_key

    gone = distrust_key(key, config_root())
    typer.echo(f"no longer trusted: {gone.label} {gone.keyid}")
