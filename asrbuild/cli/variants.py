"""``asrbuild variants``: the artifacts in a bundle, and the one that a device takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import JsonOption, MaxSizeOption, SystemOption, largest_package

if TYPE_CHECKING:
    from asrbuild.handover.ship.formats.variants import Variant


def variants(
    bundle_file: Annotated[Path, typer.Argument(metavar="FILE.asrb", help="A bundle.")],
    system: SystemOption = None,
    max_size: MaxSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove a bundle and list its artifacts in the order of preference.

    A device takes the first that its system can load.

    Examples:
        asrbuild variants demo.asrb --os iOS17
    """
    from asrbuild.handover.ship.formats.variants import choose, list_variants
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    max_bytes = largest_package(system, max_size)
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
    size = file.stat().st_size
    if as_json:
        rows = [asdict(one) | ({"chosen": one == chosen} if chosen else {}) for one in listed]
        answer = {"file": str(file), "bytes": size, "signer": signer, "variants": rows}
        terminal.say_json(answer)
        return
    headings = ("", "artifact", "format", "weights", "from", "compute units", "package")
    title = f"{file}: {size:,} bytes, signed by {signer}"
    table = folding(title, *headings, right=("package",))
    for number, one in enumerate(listed, 1):
        systems = ", ".join(f"{system} {least}" for system, least in one.minimum_os.items())
        weights = one.precision if one.compress == "none" else f"{one.precision}, {one.compress}"
        mark = "▶" if one == chosen else str(number)
        name = f"{one.name}/{one.version}"
        table.add_row(mark, name, one.format, weights, systems, one.compute_units, f"{one.bytes:,}")
    show(table)
