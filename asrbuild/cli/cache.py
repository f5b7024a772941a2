"""``asrbuild cache ls`` and ``asrbuild cache remove``."""

from __future__ import annotations

from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import CacheOption, JsonOption, StageOption, age_seconds


def ls(
    stage: StageOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the finished stages in the cache: size, age, and build time.

    Examples:
        asrbuild cache ls --stage convert
    """
    from asrbuild.base.cache_cleanup import list_entries
    from asrbuild.base.links import NamedFiles
    from asrbuild.base.places import cache_root
    from asrbuild.base.quantities import age_text, size_text

    root = cache or cache_root()
    _check_stage(stage)
    entries = list_entries(root, stage)
    if as_json:
        rows = [
            {
                "stage": entry.stage,
                "fingerprint": entry.fingerprint,
                "path": str(entry.path),
                "bytes": entry.bytes,
                "created": entry.created,
                "host": entry.host,
                "seconds": entry.seconds,
            }
            for entry in entries
        ]
        terminal.say_json(rows)
        return
    if not entries:
        terminal.say(f"nothing is cached in {root}" + (f" for the stage {stage}" if stage else ""))
        return
    headings = ("stage", "fingerprint", "size", "age", "took")
    table = folding(str(root), *headings, right=headings[2:])
    for entry in entries:
        table.add_row(
            entry.stage,
            entry.fingerprint[:12],
            size_text(entry.bytes),
            age_text(entry.created),
            f"{entry.seconds:.1f} s",
        )
    on_disk = size_text(NamedFiles(entry.path for entry in entries).bytes)
    table.caption = f"{len(entries)} entries, {on_disk} on the disk"
    show(table)


def remove(
    stage: StageOption = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Only entries older than this: 30m, 12h, 7d."
        ),
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Remove finished stages and the remains of killed builds; artifacts are not touched.

    Entries that another process is building stay.

    Examples:
        asrbuild cache remove --older-than 7d
    """
    from asrbuild.base.cache_cleanup import clear as clear_entries
    from asrbuild.base.places import cache_root
    from asrbuild.base.quantities import size_text

    seconds = None if older_than is None else age_seconds("--older-than", older_than)
    root = cache or cache_root()
    _check_stage(stage)
    freed = clear_entries(root, stage, seconds)
    terminal.say(f"freed {size_text(freed)} in {root}")


def _check_stage(stage: str | None) -> None:
    from asrbuild.builder.plan import STAGE_NAMES

    if stage is not None and stage not in STAGE_NAMES:
        raise AsrbuildError(
            f"{stage!r} is not a stage",
            key="--stage",
            fix=f"choose one of {', '.join(STAGE_NAMES)}",
        )
