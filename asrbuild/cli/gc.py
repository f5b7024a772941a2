"""``asrbuild gc``: remove old versions and unused cache entries, by rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import (
    ArtifactsOption,
    CacheOption,
    JsonOption,
    OptionalRemoteOption,
    age_seconds,
    size_bytes,
)

if TYPE_CHECKING:
    from asrbuild.artifact.cleanup import CacheRules, Item
    from asrbuild.artifact.retention import Rules


def gc(
    remove: Annotated[
        bool, typer.Option("--remove", help="Really remove. Without it nothing is changed.")
    ] = False,
    last: Annotated[int, typer.Option(min=1, help="Keep so many of the newest of a name.")] = 3,
    newer_than: Annotated[
        str, typer.Option(metavar="AGE", help="Keep versions younger than this: 12h, 30d.")
    ] = "30d",
    pin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Keep what matches: name, name/version, with * and ?. Several may be given.",
        ),
    ] = None,
    cache_older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE", help="Remove cache entries that no artifact needs, unused for this long."
        ),
    ] = "7d",
    cache_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="And those unused for longest, while it is larger: 20GB."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask remotes what their channels point at.")
    ] = False,
    remote: OptionalRemoteOption = None,
    artifacts: ArtifactsOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show old versions and cache entries that nothing needs; --remove removes them.

    A version stays when `latest` or a channel points at it, here or on a remote that was pulled
    from or shipped to; when it is pinned, by --pin or a line of the file `pinned` in the store;
    and when it is among the last few, or young. With --remote, a folder or a bucket is cleaned up:
    there every version that a channel ever
    pointed at stays, so that the channel can go back. Builds, pulls and pushes may run meanwhile.

    Examples:
        asrbuild gc
        asrbuild gc --last 5 --newer-than 14d --remove
    """
    from asrbuild.artifact.cleanup import CacheRules
    from asrbuild.artifact.retention import Rules, pinned_in
    from asrbuild.base.places import artifacts_root, cache_root

    root = artifacts or artifacts_root()
    pinned = (*(pin or ()), *(pinned_in(root) if remote is None else ()))
    rules = Rules(last, age_seconds("--newer-than", newer_than), pinned)
    notes: list[str] = []
    with terminal.status("looking for what is needed …"):
        if remote is not None:
            items, removal = _survey_remote(remote, rules)
        else:
            cache_rules = CacheRules(
                age_seconds("--cache-older-than", cache_older_than),
                size_bytes("--cache-size", cache_size),
            )
            folder = cache or cache_root()
            items, removal = _survey_store(root, folder, rules, cache_rules, offline, notes)
    gone = [item for item in items if not item.keep]
    if remove:
        with terminal.status("removing …"):
            gone = list(removal())
    if as_json:
        terminal.say_json(
            {
                "removed": remove,
                "bytes": sum(item.on_disk for item in gone),
                "gone": [asdict(item) for item in gone],
                "kept": [asdict(item) for item in items if item.keep],
                "notes": notes,
            }
        )
        return
    _print(items, gone, remove, notes)


def _survey_remote(address: str, rules: Rules) -> tuple[list[Item], Callable[[], Iterable[Item]]]:
    """The versions and files of a remote, and the function that removes those not kept."""
    from asrbuild.handover.ship import cleanup
    from asrbuild.handover.ship.remotes.address import open_remote

    remote = open_remote(address)
    items = cleanup.survey(remote, rules)
    return items, lambda: cleanup.remove(remote, items)


def _survey_store(
    root: Path,
    cache: Path,
    rules: Rules,
    cache_rules: CacheRules,
    offline: bool,
    notes: list[str],
) -> tuple[list[Item], Callable[[], Iterable[Item]]]:
    """As :func:`_survey_remote`, for the store and the cache; adds remarks to ``notes``."""
    from asrbuild.artifact import cleanup
    from asrbuild.handover.ship.lookup import pointed_versions
    from asrbuild.handover.ship.signing.keys import config_root

    pointed = pointed_versions(config_root(), notes.append, offline=offline)
    items = cleanup.survey(root, cache, rules, cache_rules, pointed)
    return items, lambda: cleanup.remove(root, cache, items)


def _print(items: Sequence[Item], gone: Sequence[Item], removed: bool, notes: list[str]) -> None:
    from asrbuild.base.quantities import age_of_seconds, size_text

    console = terminal.console()
    for note in notes:
        console.print(note, style="yellow", soft_wrap=True)
    kept = [item for item in items if item.keep]
    shown = [item for item in kept if item.kind in ("artifact", "version")]
    sections = ("stays", shown, "size"), ("went" if removed else "would go", gone, "frees")
    for title, rows, heading in sections:
        if not rows:
            continue
        table = folding(title, "what", "name", heading, "age", "why", right=(heading, "age"))
        for item in rows:
            name = item.name if item.kind in ("artifact", "version") else _short(item.name)
            # A removal frees only bytes that are not shared with files that stay.
            size = size_text(item.bytes if rows is shown else item.on_disk)
            table.add_row(item.kind, name, size, age_of_seconds(item.age), item.why)
        show(table)
    total, left = (size_text(sum(item.on_disk for item in some)) for some in (gone, kept))
    if removed:
        console.print(f"removed {_count(gone)}, {total} freed; {_count(kept)} stay, {left}")
    elif gone:
        console.print(f"{_count(gone)} would go, {total}; {_count(kept)} stay, {left}")
        console.print("nothing was changed; --remove removes them")
    else:
        console.print(f"nothing to remove; {_count(kept)} stay, {left}")


#: The kind of an item of which there is one, and of which there are several.
_KINDS = {
    "artifact": ("artifact", "artifacts"),
    "version": ("version", "versions"),
    "cache": ("cache entry", "cache entries"),
    "probabilities": ("evaluated recording", "evaluated recordings"),
    "blob": ("file", "files"),
}


def _count(items: Sequence[Item]) -> str:
    """``2 artifacts, 31 cache entries``: how many items of each kind."""
    counts = {kind: sum(item.kind == kind for item in items) for kind in _KINDS}
    texts = [f"{count} {_KINDS[kind][count > 1]}" for kind, count in counts.items() if count]
    return ", ".join(texts) or "none"


def _short(name: str) -> str:
    """A name, with its digests shortened."""
    return "/".join(part[:16] for part in name.split("/"))
