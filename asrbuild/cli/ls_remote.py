"""``asrbuild ls --remote``: the versions on a remote, who signed them, and their channels."""

from __future__ import annotations

from dataclasses import asdict

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show


def ls_remote(address: str, as_json: bool) -> None:
    """Prints every version on a remote; for one without a trusted signature, the reason."""
    from asrbuild.base.quantities import size_text
    from asrbuild.handover.ship.listing import list_remote
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    remote = open_remote(address)
    trust = read_trust(config_root())
    with terminal.status("asking the remote …"):
        rows = list_remote(remote, trust)
    if as_json:
        terminal.say_json([asdict(row) for row in rows])
        return
    if not rows:
        terminal.say(f"nothing was shipped to {address}; `asrbuild ship ARTIFACT {address}` does")
        return
    table = folding("", "name", "version", "channels", "size", "signed by", right=("size",))
    for row in rows:
        size = "?" if row.bytes is None else size_text(row.bytes)
        if row.variants:
            size = f"{len(row.variants)} variants"
        signer = row.signer or terminal.line(row.refused or "", "red")
        table.add_row(row.name, row.version, ", ".join(row.channels), size, signer)
        for one in row.variants or ():
            systems = ", ".join(f"{system} {least}" for system, least in one["minimum_os"].items())
            table.add_row("", f"  {one['name']} {one['version']}, from {systems}")
    show(table)
