"""``asrbuild variants``: what a bundle of several artifacts holds, and which a device takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.cli.options import JsonOption, MaxBytesOption, check_choice

if TYPE_CHECKING:
    from asrbuild.handover.ship.formats.variants import Variant


def variants(
    bundle_file: Annotated[Path, typer.Argument(metavar="FILE.asrb", help="A bundle.")],
    system: Annotated[
        str | None, typer.Option("--os", help="Mark the one that iOS17, macOS14.2, ... takes.")
    ] = None,
    max_bytes: MaxBytesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove a bundle and list the artifacts that it holds, in the order of preference.

    A device takes the first that its system can load.

    Example: asrbuild variants demo.asrb --os iOS17
    """
    from asrbuild.handover.ship.formats.variants import choose, list_variants
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    check_choice(system, max_bytes)
    found, key = list_variants(bundle_file, read_trust(config_root()))
    chosen = None if system is None else choose(found, system, max_bytes)
    print_variants(bundle_file, found, key.label, as_json, chosen)


def print_variants(
    file: Path,
    listed: Sequence[Variant],
    signer: str,
    as_json: bool,
    chosen: Variant | None = None,
) -> None:
    """A row for each variant of a bundle; ``chosen`` is marked."""
    from dataclasses import asdict

    size = file.stat().st_size
    if as_json:
        rows = [asdict(one) | ({"chosen": one == chosen} if chosen else {}) for one in listed]
        answer = {"file": str(file), "bytes": size, "signer": signer, "variants": rows}
        terminal.say_json(answer)
        return
    from rich.table import Table

    table = Table(title=f"{file}: {size:,} bytes, signed by {signer}", title_justify="left")
    for heading in ("", "artifact", "format", "weights", "from", "compute units"):
        table.add_column(heading, overflow="fold")
    table.add_column("package", justify="right")
    for number, one in enumerate(listed, 1):
        systems = ", ".join(f"{system} {least}" for system, least in one.minimum_os.items())
        weights = one.precision if one.compress == "none" else f"{one.precision}, {one.compress}"
        table.add_row(
            "▶" if one == chosen else str(number), f"{one.name}/{one.version}", one.format,
            weights, systems, one.compute_units, f"{one.bytes:,}",
        )  # fmt: skip
    terminal.console().print(table)
