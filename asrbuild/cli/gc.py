"""``asrbuild gc``: take away old versions and unused cache entries, by rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.options import ArtifactsOption, CacheOption

if TYPE_CHECKING:
    from asrbuild.artifact.cleanup import Item

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def gc(
    remove: Annotated[
        bool, typer.Option("--remove", help="Really remove. Without it nothing is changed.")
    ] = False,
    last: Annotated[int, typer.Option(min=1, help="Keep so many of the newest of a name.")] = 3,
    newer: Annotated[str, typer.Option(help="Keep what came within this: 12h, 30d.")] = "30d",
    pin: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep what fits: name, name/version, with * and ?. Several may be given."
        ),
    ] = None,
    cache_older: Annotated[
        str, typer.Option(help="Cache entries that no artifact needs go when unused for this.")
    ] = "7d",
    cache_size: Annotated[
        str | None, typer.Option(help="And those unused for longest, while it is larger: 20GB.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask remotes what their channels point at.")
    ] = False,
    remote: Annotated[
        str | None, typer.Option(help="Clean up this remote instead: a folder or a bucket.")
    ] = None,
    artifacts: ArtifactsOption = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what can go: old versions and cache entries that nothing needs; --remove removes it.

    A version stays when `latest` or a channel points at it, here or on a remote that was pulled
    from or shipped to; when it is pinned, by --pin or a line of the file `pinned` in the store;
    and when it is among the last few, or young. On a remote all that a channel ever pointed at
    stays, so that it can go back. Builds, pulls and pushes may run meanwhile.

    Example: asrbuild gc --last 5 --newer 14d --remove
    """
    from asrbuild.artifact.retention import Rules, pinned_in
    from asrbuild.base.places import artifacts_root, cache_root

    root = artifacts or artifacts_root()
    pinned = (*(pin or ()), *(pinned_in(root) if remote is None else ()))
    rules = Rules(last, _seconds("--newer", newer), pinned)
    notes: list[str] = []
    if remote is not None:
        from asrbuild.handover.ship import cleanup
        from asrbuild.handover.ship.remotes.address import open_remote

        place = open_remote(remote)
        with _status("looking what is needed"):
            items = cleanup.survey(place, rules)

        def go() -> Iterator[Item]:
            return cleanup.remove(place, items)

    else:
        from asrbuild.artifact import cleanup

        cache_rules = cleanup.CacheRules(
            _seconds("--cache-older", cache_older), _bytes("--cache-size", cache_size)
        )
        folder = cache or cache_root()
        with _status("looking what is needed"):
            pointed = _pointed(offline, notes)
            items = cleanup.survey(root, folder, rules, cache_rules, pointed)

        def go() -> Iterator[Item]:
            return cleanup.remove(root, folder, items)

    gone = [item for item in items if not item.keep]
    if remove:
        with _status("removing"):
            gone = list(go())
    if as_json:
        answer = {
            "removed": remove,
            "bytes": sum(item.bytes for item in gone),
            "gone": [asdict(item) for item in gone],
            "kept": [asdict(item) for item in items if item.keep],
            "notes": notes,
        }
        terminal.say_json(answer)
        return
    _print(items, gone, remove, notes)


def _seconds(option: str, text: str) -> float:
    from asrbuild.base.quantities import duration_seconds

    try:
        return duration_seconds(text)
    except ValueError:
        raise AsrbuildError(
            f"{text!r} is no age", key=option, fix="write a number and s, m, h or d: 12h, 30d"
        ) from None


def _bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+) ?([kMGT]?)B?", text)
    if match is None:
        raise AsrbuildError(
            f"{text!r} is no size", key=option, fix="write a number and kB, MB, GB or TB: 20GB"
        )
    return int(match[1]) * _UNITS[match[2]]


def _pointed(offline: bool, notes: list[str]) -> dict[tuple[str, str], str]:
    """What channels point at: as they were last seen here, and as their remotes say now."""
    from asrbuild.handover.ship.channels import chain, seen
    from asrbuild.handover.ship.formats.sets import artifacts_of
    from asrbuild.handover.ship.lookup import proven
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    config = config_root()
    pointed = dict.fromkeys(seen.seen_versions(config), "a channel pointed at it")
    trust = read_trust(config)
    for address, name, channel in () if offline else seen.seen_channels(config):
        try:
            place = open_remote(address)
            record = chain.newest(place, name, channel, trust)
            found = None if record is None else proven(place, name, record.version, trust)[0]
        except AsrbuildError as error:
            notes.append(f"{name}@{channel} of {address} is as last seen: {error.message}")
            continue
        if found is None:
            notes.append(f"{name}@{channel} of {address} is as last seen: it has no record now")
        else:
            why = f"{name}@{channel} of {address} points at it"
            pointed |= dict.fromkeys(artifacts_of(found), why)
    return pointed


def _status(doing: str) -> AbstractContextManager[object]:
    """Shows on a terminal that something is under way: a large store takes its time."""

    return terminal.status(f"{doing} …")


def _print(items: Sequence[Item], gone: Sequence[Item], removed: bool, notes: list[str]) -> None:
    from rich.table import Table

    from asrbuild.base.quantities import age_of_seconds, size_text

    console = terminal.console()
    for note in notes:
        console.print(note, style="yellow", soft_wrap=True)
    kept = [item for item in items if item.keep]
    shown = [item for item in kept if item.kind in ("artifact", "version")]
    for title, rows in (("stays", shown), ("went" if removed else "would go", gone)):
        if not rows:
            continue
        table = Table(title=title, title_justify="left", title_style="bold cyan")
        for heading in ("what", "name"):
            table.add_column(heading, overflow="fold")
        table.add_column("size", justify="right")
        table.add_column("age", justify="right")
        table.add_column("why", overflow="fold")
        for item in rows:
            name = item.name if item.kind in ("artifact", "version") else _short(item.name)
            size, age = size_text(item.bytes), age_of_seconds(item.age)
            table.add_row(item.kind, name, size, age, item.why)
        console.print(table)
    total, left = (size_text(sum(item.bytes for item in some)) for some in (gone, kept))
    if removed:
        console.print(f"removed {len(gone)}, {total} freed; {len(kept)} stay, {left}")
    elif gone:
        console.print(f"{len(gone)} would go, {total}; {len(kept)} stay, {left}")
        console.print("nothing was changed; --remove removes them")
    else:
        console.print(f"nothing to remove; {len(kept)} stay, {left}")


def _short(name: str) -> str:
    """A digest by its start."""
    return "/".join(part[:16] for part in name.split("/"))
