"""Lists the finished entries of the stage cache, and removes those that no build uses."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from asrbuild.base import locks
from asrbuild.base.cache import (
    RECIPES,
    RECORD,
    STAGE_NAME,
    StageKey,
    discard,
    is_marked,
    lock_path,
    read_record,
    sweep,
)
from asrbuild.base.digest import forget_missing
from asrbuild.base.disk import remove_tree
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.links import NamedFiles

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CacheEntry:
    """One finished entry.

    ``created`` is ISO 8601 in UTC, ``seconds`` the duration of its build, ``used`` the POSIX time
    of its last use by a build; ``made`` is ``created`` as POSIX time.
    """

    stage: str
    fingerprint: str
    path: Path
    bytes: int
    created: str
    host: str
    seconds: float
    key: StageKey
    used: float
    made: float


def list_entries(cache_root: Path, stage: str | None = None) -> list[CacheEntry]:
    """The finished entries, by stage and then newest first; unreadable ones are left out."""
    entries = [entry for path in _entry_paths(cache_root, stage) if (entry := _entry(path))]
    entries.sort(key=lambda entry: entry.created, reverse=True)
    return sorted(entries, key=lambda entry: entry.stage)


def _entry_paths(cache_root: Path, stage: str | None) -> Iterator[Path]:
    if not cache_root.is_dir():
        return
    for folder in sorted(cache_root.iterdir()):
        if folder.is_dir() and STAGE_NAME.fullmatch(folder.name) and stage in (None, folder.name):
            yield from (path for path in folder.iterdir() if _FINGERPRINT.fullmatch(path.name))


def _entry(path: Path) -> CacheEntry | None:
    record = read_record(path)
    if record is None:
        return None
    try:
        key = StageKey(**record["key"])
        size = sum(int(file["bytes"]) for file in record["files"])
        seconds = float(record["seconds"])
        sections = (key.keys, key.files, key.versions)
        if not all(isinstance(section, dict) for section in sections):
            return None
        if not (0 <= size < 2**63 and 0 <= seconds < math.inf):
            return None
        return CacheEntry(
            stage=path.parent.name,
            fingerprint=path.name,
            path=path,
            bytes=size,
            created=str(record["created"]),
            made=datetime.fromisoformat(record["created"]).timestamp(),
            host=str(record["host"]),
            seconds=seconds,
            key=key,
            used=os.stat(path / RECORD).st_mtime,
        )
    except (KeyError, TypeError, ValueError, OSError, OverflowError):
        return None


def remove_unused(cache_root: Path, entry: CacheEntry, since: float) -> bool:
    """Removes an entry that no build used after the POSIX time ``since``; returns whether it did.

    Readers never see a part of an entry. An entry that is being built or waited for is kept.
    """
    with locks.try_hold(lock_path(cache_root, entry.stage, entry.fingerprint)) as free:
        try:
            if free is False or os.stat(entry.path / RECORD).st_mtime > since:
                return False
            if is_marked(cache_root, entry.path):
                return False
        except FileNotFoundError:
            return False  # another process removed it
        discard(entry.path)
        return True


def clear(cache_root: Path, stage: str | None = None, older_than: float | None = None) -> int:
    """Removes finished entries and dead builds, and returns the bytes freed.

    Args:
        stage: only entries of this stage.
        older_than: only entries made more than this number of seconds ago.

    An entry that some process is building, waiting for or using at this moment is kept.
    """
    freed = 0
    now = time.time()
    refused: AsrbuildError | None = None
    sweep(cache_root)  # first, so that the marks of killed builds keep nothing
    for path in list(_entry_paths(cache_root, stage)):
        entry = _entry(path)
        # Folders that are not whole entries: files that evaluations keep, or a damaged entry.
        made = _made(path) if entry is None else entry.made
        if older_than is not None and now - made <= older_than:
            continue
        try:
            with locks.try_hold(lock_path(cache_root, path.parent.name, path.name)) as free:
                if free is not False and not is_marked(cache_root, path):
                    size = NamedFiles().without(path)
                    discard(path)
                    freed += size
        except AsrbuildError as error:
            refused = refused or error  # raised after the others are removed
    if stage is None and older_than is None:
        remove_tree(cache_root / RECIPES)
    if cache_root.is_dir():
        forget_missing(cache_root)
    if refused is not None:
        raise refused
    return freed


def _made(folder: Path) -> float:
    """The time of the last addition to a folder without a record."""
    made = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # another process removed it
            made = max(made, path.lstat().st_mtime)
    return made
