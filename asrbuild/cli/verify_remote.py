"""``asrbuild verify REMOTE``: checks that every byte on a remote is as signed."""

from __future__ import annotations

import shlex
from dataclasses import asdict

from asrbuild.base import terminal


def verify_remote(address: str, as_json: bool) -> bool:
    """Prints the faults of a remote; returns True if there are none."""
    from asrbuild.base.quantities import size_text
    from asrbuild.cli.transfers import shown_transfers
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust
    from asrbuild.handover.ship.verify import check_remote

    remote = open_remote(address)
    with shown_transfers() as notify:
        checked = check_remote(remote, read_trust(config_root()), notify)
    if as_json:
        terminal.say_json(asdict(checked) | {"passed": not checked.faults})
        return not checked.faults
    for fault in checked.faults:
        where = "" if fault.path is None else f" {fault.path}"
        terminal.say(f"{fault.what}{where}: {fault.message}")
    damaged = sorted({fault.what for fault in checked.faults if fault.path is not None})
    for version in damaged:
        terminal.say(
            f"  fix: asrbuild ship {version} {shlex.quote(address)}, from a store that has it whole"
        )
    terminal.say(
        f"{checked.versions} version{'s' * (checked.versions != 1)}, {checked.files} files with "
        f"{size_text(checked.bytes)}: "
        + (f"{len(checked.faults)} faults" if checked.faults else "all as signed")
    )
    return not checked.faults
