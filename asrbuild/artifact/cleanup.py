"""Clean-up of the store and the cache: lists artifacts and entries to remove, and removes them.

An artifact stays by the rules of :mod:`asrbuild.artifact.retention`, if ``latest`` names it, or if
a channel points to it. A cache entry stays if it led to an artifact that stays, or was used lately.
Builds may run meanwhile: entries that they claim and artifacts that they publish stay, see
:func:`asrbuild.base.cache_cleanup.remove_unused` and :func:`asrbuild.artifact.store.remove`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from asrbuild.artifact import lookup, store
from asrbuild.artifact.layout import PROBABILITIES_FOLDER, RECEIPT
from asrbuild.artifact.retention import YOUNG_SECONDS, Candidate, Rules, Version, decide
from asrbuild.base import cache, cache_cleanup
from asrbuild.base.cache_cleanup import CacheEntry
from asrbuild.base.digest import forget_missing
from asrbuild.base.disk import disk_errors, read_plain
from asrbuild.base.links import NamedFiles
from asrbuild.base.quantities import age_of_seconds, size_text

#: A build needs an entry that it claimed for at most so many seconds.
CLAIM_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Item:
    """An artifact or cache entry, and whether it stays.

    Args:
        bytes: its size.
        age: seconds since it was added, or last used.
        own: bytes that its removal frees; fewer than ``bytes`` if it shares files with others
            (:mod:`asrbuild.base.links`); None: all of them.
    """

    kind: Literal["artifact", "cache", "probabilities", "version", "blob"]
    name: str
    bytes: int
    age: float
    keep: bool
    why: str
    own: int | None = None

    @property
    def on_disk(self) -> int:
        """The bytes that it occupies in addition to the items before it."""
        return self.bytes if self.own is None else self.own


@dataclass(frozen=True)
class CacheRules:
    """Rules for cache entries that no artifact needs: those unused for ``older_than`` seconds go.

    ``size``: while the cache is larger than so many bytes, further entries go, those unused for
    longest first; None: no limit.
    """

    older_than: float
    size: int | None = None


def survey(
    root: Path,
    cache_root: Path,
    rules: Rules,
    cache_rules: CacheRules,
    pointed: Mapping[Version, str],
    now: float | None = None,
) -> list[Item]:
    """Lists every artifact and cache entry, and whether it stays; changes nothing.

    Args:
        pointed: artifact -> the channels that point to it.
        now: POSIX seconds.
    """
    now = time.time() if now is None else now
    artifacts = list(_artifacts(root, rules, pointed, now))
    kept = {item.name for item in artifacts if item.keep}
    entries = list(_entries(cache_root, cache_rules, kept, now))
    found = [*artifacts, *entries, *_probabilities(cache_root, cache_rules, now)]
    return list(_with_own(root, cache_root, found))


def _with_own(root: Path, cache_root: Path, items: list[Item]) -> Iterator[Item]:
    """Adds ``own`` to each item: the bytes that its removal frees, or that it adds if it stays."""
    going, staying = NamedFiles(), NamedFiles(_path(root, cache_root, i) for i in items if i.keep)
    for item in items:
        names = staying if item.keep else going
        yield replace(item, own=names.without(_path(root, cache_root, item)))


def _path(root: Path, cache_root: Path, item: Item) -> Path:
    return (root if item.kind == "artifact" else cache_root) / item.name


def _artifacts(
    root: Path, rules: Rules, pointed: Mapping[Version, str], now: float
) -> Iterator[Item]:
    published = {(a.name, a.version): a for a in lookup.list_artifacts(root)}
    latest = {version: "latest" for version, artifact in published.items() if artifact.latest}
    candidates = [
        Candidate(*version, max(0.0, now - store.came(artifact.path)))
        for version, artifact in published.items()
    ]
    for verdict in decide(candidates, rules, {**pointed, **latest}):
        one = verdict.candidate
        size = _size(published[one.name, one.version].path)
        name = f"{one.name}/{one.version}"
        yield Item("artifact", name, size, one.age, verdict.keep, verdict.why)


def _size(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _entries(
    cache_root: Path, rules: CacheRules, artifacts: Collection[str], now: float
) -> Iterator[Item]:
    entries = cache_cleanup.list_entries(cache_root)
    needed = _needed(entries, artifacts)
    names = NamedFiles(entry.path for entry in entries)
    total = names.bytes
    # Those unused for longest first, for the limit on the size.
    for entry in sorted(entries, key=lambda entry: entry.used):
        age = max(0.0, now - entry.used)
        name = f"{entry.stage}/{entry.fingerprint}"
        why = None
        if entry.fingerprint in needed:
            keep, why = True, f"a step towards {needed[entry.fingerprint]}"
        elif age < CLAIM_SECONDS:
            keep, why = True, "used within a day"
        elif age >= rules.older_than:
            keep, why = False, f"no artifact needs it, unused for {age_of_seconds(age)}"
        elif rules.size is not None and total > rules.size:
            keep, why = False, f"no artifact needs it, the cache is over {size_text(rules.size)}"
        else:
            keep, why = True, f"used within {age_of_seconds(rules.older_than)}"
        total -= 0 if keep else names.without(entry.path)
        yield Item("cache", name, entry.bytes, age, keep, why)


def _needed(entries: Iterable[CacheEntry], artifacts: Collection[str]) -> dict[str, str]:
    """Fingerprint -> artifact, for every entry that led to one of the artifacts.

    A stage's key holds the fingerprints of the stages before it, so the last stage's receipt and
    the keys lead back.
    """
    known = {entry.fingerprint: entry for entry in entries}
    needed: dict[str, str] = {}
    for entry in known.values():
        name = _receipt(entry)
        pending = [entry.fingerprint] if name in artifacts else []
        while pending:
            fingerprint = pending.pop()
            if fingerprint in known and fingerprint not in needed:
                needed[fingerprint] = str(name)
                pending += _texts(known[fingerprint].key.keys)
    return needed


def _receipt(entry: CacheEntry) -> str | None:
    """The artifact that an entry of the last stage records."""
    if entry.stage != "artifact":
        return None
    try:
        receipt = json.loads(read_plain(entry.path / RECEIPT))
        return f"{receipt['name']}/{receipt['version']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _texts(value: Any) -> Iterator[str]:
    """Yields every text in nested JSON."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, (Mapping, list)):
            pending += item.values() if isinstance(item, Mapping) else item


def _probabilities(cache_root: Path, rules: CacheRules, now: float) -> Iterator[Item]:
    """Yields the probabilities that evaluations kept, one file a recording."""
    oldest = max(rules.older_than, CLAIM_SECONDS)
    for path in sorted((cache_root / PROBABILITIES_FOLDER).glob("*/*")):
        with suppress(OSError):
            status = path.stat()
            age = max(0.0, now - status.st_mtime)
            limit = age_of_seconds(oldest)
            why = f"older than {limit}" if age >= oldest else f"newer than {limit}"
            name = path.relative_to(cache_root).as_posix()
            yield Item("probabilities", name, status.st_size, age, age < oldest, why)


def remove(root: Path, cache_root: Path, items: Iterable[Item]) -> Iterator[Item]:
    """Removes the items that do not stay; yields those that were really removed.

    An item that a build has used since the survey, or that has become the latest, stays.
    """
    now = time.time()
    entries = None
    for item in items:
        if item.keep:
            continue
        gone = False
        own = NamedFiles().without(_path(root, cache_root, item))
        if item.kind == "artifact":
            name, _, version = item.name.partition("/")
            gone = store.remove(root, name, version, unless_after=now - YOUNG_SECONDS)
        elif item.kind == "cache":
            if entries is None:
                entries = {
                    f"{e.stage}/{e.fingerprint}": e for e in cache_cleanup.list_entries(cache_root)
                }
            entry = entries.get(item.name)
            gone = entry is not None and cache_cleanup.remove_unused(
                cache_root, entry, now - CLAIM_SECONDS
            )
        elif item.kind == "probabilities":
            path = cache_root / item.name
            with disk_errors("removing probabilities", path):
                path.unlink(missing_ok=True)
                gone = True
        if gone:
            yield replace(item, own=own)
    sweep(root, cache_root)


def sweep(root: Path, cache_root: Path) -> None:
    """Removes leftovers of killed builds and clean-ups, and memos of files that no longer exist."""
    store.sweep(root)
    cache.sweep(cache_root)
    if cache_root.is_dir():
        forget_missing(cache_root)
