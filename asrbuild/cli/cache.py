"""``asrbuild cache ls`` and ``asrbuild cache clear``."""

from __future__ import annotations

from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.options import CacheOption, StageOption


def ls(
    stage: StageOption = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the finished stages in the cache: size, age, what building them took.

    Example: asrbuild cache ls --stage convert
    """
    from asrbuild.base.cache import list_entries
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
    from rich.table import Table

    table = Table(title=str(root), title_justify="left")
    for heading, justify in (
        ("stage", "left"), ("fingerprint", "left"), ("size", "right"), ("age", "right"),
        ("took", "right"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, overflow="fold")
    for entry in entries:
        table.add_row(
            entry.stage,
            entry.fingerprint[:12],
            size_text(entry.bytes),
            age_text(entry.created),
            f"{entry.seconds:.1f} s",
        )
    table.caption = f"{len(entries)} entries, {size_text(sum(e.bytes for e in entries))}"
    table.caption_justify = "left"
    terminal.console().print(table)


def clear(
    stage: StageOption = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Only entries older than this: 30m, 12h, 7d."),
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Remove finished stages and what killed builds left; artifacts are not touched.

    What another process is building at this moment is kept.

    Example: asrbuild cache clear --older-than 7d
    """
    from asrbuild.base.cache import clear as clear_entries
    from asrbuild.base.places import cache_root
    from asrbuild.base.quantities import duration_seconds, size_text

    seconds = None
    if older_than is not None:
        try:
            seconds = duration_seconds(older_than)
        except ValueError:
            raise AsrbuildError(
                f"{older_than!r} is no age",
                key="--older-than",
                fix="write a number and s, m, h or d: 30m, 12h, 7d",
            ) from None
    root = cache or cache_root()
    _check_stage(stage)
    freed = clear_entries(root, stage, seconds)
    terminal.say(f"freed {size_text(freed)} in {root}")


def _check_stage(stage: str | None) -> None:
    from asrbuild.build.stages import DOING

    if stage is not None and stage not in DOING:
        raise AsrbuildError(
            f"no stage is called {stage!r}", key="--stage", fix=f"choose one of {', '.join(DOING)}"
        )
