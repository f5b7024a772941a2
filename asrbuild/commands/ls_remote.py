"""``asrbuild ls --remote``: what was shipped, by whom, and what channels point at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from asrbuild.ship.remote import Remote
    from asrbuild.ship.trust import Trust


def ls_remote(address: str, as_json: bool) -> None:
    """Prints every version of every artifact on a remote; what nobody trusted signed says so."""
    from asrbuild.ship.keys import config_root
    from asrbuild.ship.remote import open_remote
    from asrbuild.ship.trust import read_trust

    remote = open_remote(address)
    trust = read_trust(config_root())
    rows = [row for name in remote.names() for row in _rows(remote, name, trust)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo(f"nothing was shipped to {address}; `asrbuild ship ARTIFACT {address}` does")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from asrbuild.quantities import size_text

    table = Table()
    for heading in ("name", "version", "channels"):
        table.add_column(heading, overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("signed by", overflow="fold")
    for row in rows:
        signer = escape(row["signer"]) if row["signer"] else f"[red]{escape(row['refused'])}[/]"
        size = "?" if row["bytes"] is None else size_text(row["bytes"])
        table.add_row(row["name"], row["version"], ", ".join(row["channels"]), size, signer)
    Console().print(table)


def _rows(remote: Remote, name: str, trust: Trust) -> list[dict[str, Any]]:
    pointed: dict[str, list[str]] = {}
    for channel in remote.channels(name):
        version = _pointed_at(remote, name, channel, trust)
        if version is not None:
            pointed.setdefault(version, []).append(channel)
    return [
        {"name": name, "version": version, "channels": pointed.get(version, [])}
        | _about(remote, name, version, trust)
        for version in remote.versions(name)
    ]


def _pointed_at(remote: Remote, name: str, channel: str, trust: Trust) -> str | None:
    from asrbuild.ship.channels import newest
    from asrbuild.ship.refusal import Refused

    try:
        record = newest(remote, name, channel, trust)
    except Refused:
        return None  # a pointer that nobody trusted signed points at nothing
    return None if record is None else record.version


def _about(remote: Remote, name: str, version: str, trust: Trust) -> dict[str, Any]:
    from asrbuild.ship.header import check_header, parse_header
    from asrbuild.ship.refusal import Refusal, Refused

    raw = remote.header(name, version)
    if raw is None:
        return {"bytes": None, "header": None, "signer": None, "refused": "FILE_MISSING"}
    try:
        header = parse_header(raw)
        key = check_header(header, trust)
        if (header.name, header.version) != (name, version):
            raise Refused(Refusal.IDENTITY_MISMATCH, "it is another artifact's header")
    except Refused as error:
        return {"bytes": None, "header": None, "signer": None, "refused": error.reason.value}
    return {
        "bytes": header.total,
        "header": header.digest,
        "signer": key.label,
        "refused": None,
    }
