"""``asrbuild ls --remote``: what was shipped, by whom, and what channels point at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asrbuild.base import terminal

if TYPE_CHECKING:
    from asrbuild.handover.ship.remotes.remote import Remote
    from asrbuild.handover.ship.signing.trust import Trust


def ls_remote(address: str, as_json: bool) -> None:
    """Prints every version of every artifact and set on a remote; what nobody trusted signed says
    so."""
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    remote = open_remote(address)
    trust = read_trust(config_root())
    with terminal.status("asking the remote …"):
        rows = _rows(remote, trust)
    if as_json:
        terminal.say_json(rows)
        return
    if not rows:
        terminal.say(f"nothing was shipped to {address}; `asrbuild ship ARTIFACT {address}` does")
        return
    from rich.table import Table

    from asrbuild.base.quantities import size_text

    table = Table()
    for heading in ("name", "version", "channels"):
        table.add_column(heading, overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("signed by", overflow="fold")
    for row in rows:
        signer = row["signer"] or terminal.line(row["refused"], "red")
        variants = row["variants"] or ()
        size = "?" if row["bytes"] is None else size_text(row["bytes"])
        table.add_row(
            row["name"], row["version"], ", ".join(row["channels"]),
            f"{len(variants)} variants" if variants else size, signer,
        )  # fmt: skip
        for one in variants:
            systems = ", ".join(f"{system} {least}" for system, least in one["minimum_os"].items())
            table.add_row("", f"  {one['name']} {one['version']}, from {systems}")
    terminal.console().print(table)


def _rows(remote: Remote, trust: Trust) -> list[dict[str, Any]]:
    """A row for each version; far remotes are asked for many side by side."""
    from asrbuild.base.threads import run_concurrently

    def listed(name: str) -> list[tuple[str, str, list[str]]]:
        pointed: dict[str, list[str]] = {}
        for channel in remote.channels(name):
            version = _pointed_at(remote, name, channel, trust)
            if version is not None:
                pointed.setdefault(version, []).append(channel)
        return [(name, version, pointed.get(version, [])) for version in remote.versions(name)]

    def row(of: tuple[str, str, list[str]]) -> dict[str, Any]:
        name, version, channels = of
        about = _about(remote, name, version, trust)
        return {"name": name, "version": version, "channels": channels} | about

    return run_concurrently(
        row, [of for every in run_concurrently(listed, remote.names()) for of in every]
    )


def _pointed_at(remote: Remote, name: str, channel: str, trust: Trust) -> str | None:
    from asrbuild.base.errors import AsrbuildError
    from asrbuild.handover.ship.channels.chain import newest

    try:
        record = newest(remote, name, channel, trust)
    except AsrbuildError:
        return None  # a pointer that nobody trusted signed, or none can read, points at nothing
    return None if record is None else record.version


def _about(remote: Remote, name: str, version: str, trust: Trust) -> dict[str, Any]:
    from dataclasses import asdict

    from asrbuild.base.errors import AsrbuildError
    from asrbuild.handover.ship.formats.header import Header
    from asrbuild.handover.ship.lookup import proven
    from asrbuild.handover.ship.refusal import Refused

    about = dict.fromkeys(("bytes", "header", "signer", "refused", "variants"))
    try:
        found, key = proven(remote, name, version, trust)
    except AsrbuildError as error:
        refused = error.reason.value if isinstance(error, Refused) else error.message
        return about | {"refused": refused}
    about |= {"header": found.digest, "signer": key.label}
    if isinstance(found, Header):
        return about | {"bytes": found.total}
    return about | {"variants": [asdict(variant) for variant in found.variants]}
