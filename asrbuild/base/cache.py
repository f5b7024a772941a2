"""The stage cache: a stage's result is a directory named by the digest of all its inputs.

    cache/<stage>/<fingerprint>/            the stage's files, and stage.json describing them
    cache/.building/<stage>-<fingerprint>.* a build under way; renamed into place when whole
    cache/.locks/                           a lock for each build under way
    cache/.digests/                         digests of large files, so a no-op build reads none
    cache/.recipes/                         recipes by command line, see builder/composed.py

An entry is whole, or it does not exist. A failed build leaves nothing. Every use checks
the entry against its recorded digests; a damaged entry is a miss. Any number of processes, on any
number of machines, may share one cache.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from asrbuild.base import locks, ownership
from asrbuild.base.digest import (
    canonical_json,
    file_digest,
    remember_digest,
    text_digest,
    tree_digests,
)
from asrbuild.base.disk import (
    disk_errors,
    files_in,
    full_disk_errors,
    read_plain,
    remove_tree,
    rename_directory,
    sync_path,
)
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.version import __version__

RECORD = "stage.json"
BUILDING = ".building"
LOCKS = ".locks"
RECIPES = ".recipes"
_USE = "use-"
#: Begins the name of the lock of a stage whose entries are linked to each other.
_LINKS = "links-"
STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class StageKey:
    """All that a stage's result depends on.

    Args:
        stage: its name, ``[a-z0-9_]``.
        code_version: a number raised by hand when the stage's own code changes its result, or a
            digest of that code.
        keys: the recipe keys the stage reads, and no others; nested JSON is fine.
        files: label to SHA-256 of each file it reads; labels, so that a moved file changes nothing.
        versions: name to version of each library that shapes the result.
    """

    stage: str
    code_version: int | str
    keys: Mapping[str, Any]
    files: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class StageResult:
    """A stage's files; ``hit``: they existed already, or another process built them.

    ``seconds`` is the duration of this call, waiting included.
    """

    path: Path
    fingerprint: str
    hit: bool
    seconds: float


def fingerprint(key: StageKey) -> str:
    """SHA-256 of the key as canonical JSON: the same for any key order, another for any change."""
    if not STAGE_NAME.fullmatch(key.stage):
        raise AsrbuildError(f"{key.stage!r} is not a stage's name", key=key.stage)
    return text_digest(_key_text(key))


def _key_text(key: StageKey) -> str:
    return canonical_json({field.name: getattr(key, field.name) for field in fields(key)})


def entry_path(cache_root: Path, key: StageKey) -> Path:
    """The folder of the entry of ``key``, which may not exist yet."""
    return cache_root / key.stage / fingerprint(key)


def require_own(cache_root: Path) -> None:
    """Raises if another user could have written to the cache; see :func:`ownership.require_own`.

    It checks the folders; :func:`entry_problem` checks the files of the entries that are used.
    """
    with disk_errors("looking at the cache", cache_root):
        below = cache_root.iterdir() if cache_root.is_dir() else ()
        ownership.require_own(cache_root, *(path for path in below if path.is_dir()))


@contextmanager
def in_use(cache_root: Path) -> Iterator[Path | None]:
    """Yields a folder of marks for one build; clean-ups keep entries that a live build marked.

    The marks are in ``.building``, next to unfinished entries, under a lock of the build's own, so
    that the marks of a killed build are removed with its other leftovers. Yields None if that lock
    cannot be written, as on a full or read-only disk: the build goes on without marks and uses
    existing entries, and a stage that has to write raises its own error.
    """
    name = f"{_USE}{locks.unfinished_name()}"
    marks = cache_root / BUILDING / f"{name}.marks"
    lock = cache_root / LOCKS / f"{name}.lock"
    held = locks.hold(lock, waiting=lambda _: None, doing="marking entries as in use")
    with ExitStack() as stack:
        locked = True
        try:
            stack.enter_context(held)
        except AsrbuildError:
            locked = False
        try:
            yield marks if locked else None
        finally:
            with suppress(AsrbuildError):  # marks without a lock are swept as leftovers
                discard(marks)


def _mark(marks: Path | None, path: Path) -> None:
    """Marks an entry as in use, before its files are checked; see :func:`_claim`."""
    if marks is not None:
        with suppress(OSError):  # no clean-up runs in a read-only cache
            marks.mkdir(parents=True, exist_ok=True)
            (marks / f"{path.parent.name}-{path.name}").touch()


def is_marked(cache_root: Path, path: Path) -> bool:
    """Whether a build has marked this entry; the caller holds the entry's lock."""
    name = f"{path.parent.name}-{path.name}"
    return any((marks / name).exists() for marks in (cache_root / BUILDING).glob(f"{_USE}*.marks"))


def run_stage(
    cache_root: Path,
    key: StageKey,
    build: Callable[[Path], None],
    *,
    notify: Callable[[str], None],
    verify: bool = False,
    marks: Path | None = None,
) -> StageResult:
    """Returns the stage's directory from the cache, or makes it with ``build(empty directory)``.

    Args:
        build: writes the stage's files into the directory it is given; its exceptions are raised
            here, after its directory is removed.
        notify: called with one line of text about a wait, damage or leftovers.
        verify: read every byte of an existing entry, even of files that did not change.
        marks: from :func:`in_use`; the entry stays for as long as those do.

    Raises:
        AsrbuildError: the disk is full or read-only, another user could have written the entry, or
            ``build`` raised it.
    """

    def waiting(who: str) -> None:
        notify(f"{key.stage}: {who} is building the same thing; waiting to take its result")

    start = time.perf_counter()
    print_ = fingerprint(key)
    path = cache_root / key.stage / print_
    _mark(marks, path)
    hit = _claim(cache_root, path) and _is_whole(cache_root, path, verify=verify)
    if not hit:
        _sweep_once(cache_root)
        lock = lock_path(cache_root, key.stage, print_)
        doing = f"building the stage {key.stage}"
        with locks.hold(lock, waiting=waiting, doing=doing) as exact:
            hit = _usable(cache_root, path, key.stage, notify, verify=verify)
            if not hit:
                _remove_leftovers(cache_root, f"{key.stage}-{print_}", exact=exact)
                _build_entry(cache_root, key, print_, build)
    return StageResult(path, print_, hit, time.perf_counter() - start)


def is_cached(cache_root: Path, key: StageKey) -> bool:
    """Whether running the stage would do no work."""
    return _is_whole(cache_root, entry_path(cache_root, key), verify=False)


def claim(cache_root: Path, key: StageKey) -> bool:
    """Whether the cache has the stage's whole result; if so, its time of last use becomes now."""
    path = entry_path(cache_root, key)
    return _claim(cache_root, path) and _is_whole(cache_root, path, verify=False)


def _claim(cache_root: Path, path: Path) -> bool:
    """Marks an entry as used; False if it does not exist or its lock is taken: try again, locked.

    A clean-up takes the lock and then looks at the mark; a build marks and then looks at the lock.
    The later of the two sees the other, so a claimed entry is never removed.
    """
    try:
        os.utime(path / RECORD)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # no clean-up runs in a read-only cache
    lock = lock_path(cache_root, path.parent.name, path.name)
    return not lock.exists()


def _build_entry(
    cache_root: Path, key: StageKey, print_: str, build: Callable[[Path], None]
) -> None:
    target = cache_root / key.stage / print_
    work = cache_root / BUILDING / f"{key.stage}-{print_}.{locks.unfinished_name()}"
    doing = f"building the stage {key.stage}"
    try:
        with disk_errors(doing, cache_root):
            work.mkdir(parents=True)
            target.parent.mkdir(exist_ok=True)
        start = time.perf_counter()
        with full_disk_errors(doing, cache_root):
            build(work)
        with disk_errors(doing, cache_root):
            seconds = time.perf_counter() - start
            digests = tree_digests(work)
            with _linking(cache_root, key.stage, work, digests):
                _record(cache_root, work, key, print_, seconds, digests)
                renamed = rename_directory(work, target)
            if renamed:
                for name, digest in digests.items():
                    remember_digest(target / name, cache_root, digest)
    finally:
        # Also after Ctrl-C, and when another process published the same entry first.
        discard(work)


@contextmanager
def _linking(
    cache_root: Path, stage: str, work: Path, digests: Mapping[str, str]
) -> Iterator[None]:
    """Links large files to those of earlier entries; meanwhile no other entry of the stage does.

    So of two entries that are made at the same time, the second one finds the files of the first.
    """
    from asrbuild.base import links

    if not any(links.is_large(work / name) for name in digests):
        yield
        return
    lock = cache_root / LOCKS / f"{_LINKS}{stage}.lock"
    with locks.hold(lock, waiting=lambda _: None, doing="sharing large files"):
        for name, digest in digests.items():
            _store_once(cache_root, stage, work / name, digest)
        yield


def _record(
    cache_root: Path,
    work: Path,
    key: StageKey,
    print_: str,
    seconds: float,
    digests: Mapping[str, str],
) -> None:
    """Writes the entry's description."""
    if (work / RECORD).exists():
        raise AsrbuildError(f"the stage {key.stage} wrote {RECORD}, a name the cache keeps")
    record = {
        "key": json.loads(_key_text(key)),
        "fingerprint": print_,
        "files": [
            {"path": name, "bytes": (work / name).stat().st_size, "sha256": digest}
            for name, digest in digests.items()
        ],
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "tool": f"asrbuild {__version__}",
        "seconds": round(seconds, 3),
    }
    with open(work / RECORD, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(record, indent=2, sort_keys=True) + "\n")
    # The data is not forced to the disk: after a power cut the digests are checked anew.
    sync_path(work / RECORD)


def _store_once(cache_root: Path, stage: str, file: Path, digest: str) -> None:
    """Makes a large file read-only, and links it to an earlier entry's file with the same bytes."""
    from asrbuild.base import links

    if not links.is_large(file):
        return
    links.make_read_only(file)
    twin = file.with_name(f".{secrets.token_hex(6)}")
    if links.link_first(_files_of(cache_root / stage, digest), twin, digest, cache_root):
        os.replace(twin, file)


def _files_of(folder: Path, digest: str) -> Iterator[Path]:
    """The files of a stage's entries that have this digest on record, most recently used first."""
    used = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            used[entry] = os.stat(entry / RECORD).st_mtime
    for entry in sorted(used, key=lambda entry: used[entry], reverse=True):
        record = read_record(entry) or {}
        with suppress(KeyError, TypeError):  # a damaged entry has no twin
            yield from (entry / f["path"] for f in record["files"] if f["sha256"] == digest)


def _usable(
    cache_root: Path, path: Path, stage: str, notify: Callable[[str], None], *, verify: bool
) -> bool:
    """Whether the entry exists and is whole; a damaged entry is reported and removed."""
    if not os.path.lexists(path):
        return False
    problem = entry_problem(cache_root, path, verify=verify)
    if problem is None:
        return True
    notify(f"{stage}: the cached entry is damaged ({problem}); building it again")
    discard(path)
    return False


def _is_whole(cache_root: Path, path: Path, *, verify: bool) -> bool:
    return os.path.lexists(path) and entry_problem(cache_root, path, verify=verify) is None


def entry_problem(cache_root: Path, path: Path, *, verify: bool = False) -> str | None:
    """Describes the damage of an entry; None if the entry is exactly what its stage wrote.

    Sizes and digests of every file are compared. A digest comes from the memo if the file has not
    changed since it was read, unless ``verify`` is set.
    """
    record = read_record(path)
    if record is None:
        return f"{RECORD} is missing or unreadable"
    try:
        if text_digest(canonical_json(record["key"])) != path.name:
            return f"{RECORD} belongs to another entry"
        recorded = {str(f["path"]): (f["bytes"], f["sha256"]) for f in record["files"]}
        present = set(files_in(path)) - {RECORD}
    except (KeyError, TypeError):
        return f"{RECORD} is malformed"
    except (AsrbuildError, OSError) as error:
        return getattr(error, "message", None) or str(error)
    folders = {parent for name in present for parent in (path / name).parents} - {*path.parents}
    ownership.require_own(path, *folders, *(path / name for name in (RECORD, *present)))
    for name in sorted(present ^ set(recorded)):
        return f"{name} is missing" if name in recorded else f"{name} was added"
    for name, (size, digest) in recorded.items():
        try:
            if os.stat(path / name).st_size != size:
                return f"{name} has the wrong size"
            if file_digest(path / name, None if verify else cache_root) != digest:
                return f"{name} was changed"
        except (AsrbuildError, OSError) as error:
            return f"{name} cannot be read: {getattr(error, 'message', error)}"
    return None


def read_record(path: Path) -> dict[str, Any] | None:
    """The description of an entry; None where it is missing or unreadable."""
    try:
        record = json.loads(read_plain(path / RECORD))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def discard(path: Path) -> None:
    """Removes an entry or a build directory; readers never see a part of it."""
    if not os.path.lexists(path):
        return
    with disk_errors("removing a damaged or unfinished entry", path):
        if path.parent.name != BUILDING:
            building = path.parent.parent / BUILDING
            building.mkdir(exist_ok=True)
            away = building / f"{path.parent.name}-{path.name}.{secrets.token_hex(6)}"
            os.rename(path, away)
            path = away
        remove_tree(path)


def lock_path(cache_root: Path, stage: str, print_: str) -> Path:
    """The lock of an entry."""
    return cache_root / LOCKS / f"{stage}-{print_}.lock"


def sweep(cache_root: Path) -> int:
    """Removes the leftovers of killed builds, never of live ones; returns their number."""
    removed = 0
    # A killed build leaves a lock and a directory, or the lock alone.
    traces = [*(cache_root / BUILDING).glob("*.*"), *(cache_root / LOCKS).glob("[!.]*")]
    for entry in sorted({trace.name.split(".")[0] for trace in traces}):
        # A stray file must not prevent the removal of the rest.
        with (
            suppress(AsrbuildError),
            locks.try_hold(cache_root / LOCKS / f"{entry}.lock") as free,
        ):
            if free is not False:
                removed += _remove_leftovers(cache_root, entry, exact=free is True)
    return removed


def _remove_leftovers(cache_root: Path, entry: str, *, exact: bool) -> int:
    """Removes leftovers of an entry whose lock the caller holds; returns their number."""
    leftovers = [
        path
        for path in (cache_root / BUILDING).glob(f"{entry}.*")
        if locks.is_abandoned(path, exact=exact)
    ]
    for leftover in leftovers:
        discard(leftover)
    return len(leftovers)


@cache
def _sweep_once(cache_root: Path) -> None:
    # Leftovers come from earlier processes, so one search per process finds them.
    sweep(cache_root)
