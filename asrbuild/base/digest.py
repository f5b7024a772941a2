"""Digests of values and files, with a memo for large files so that a no-op build reads none."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asrbuild.base.disk import disk_errors, files_in, read_plain, write_atomically
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.ownership import others_power, trusts_shared

MEMO_FOLDER = ".digests"
# Reading a smaller file costs less than finding its digest in the memo.
_SMALL = 256 * 1024
# A file changed this recently may change again within one tick of its timestamps.
_SETTLED_SECONDS = 2.0
# Integers beyond this have neighbours that are the same float.
_EXACT_FLOAT = 2**53


def canonical_json(value: object) -> str:
    """One text per JSON value: keys sorted, no spaces, ASCII, ``1.0`` written as ``1``.

    Raises:
        AsrbuildError: the value is not JSON (NaN, a path, a key that is not a string, ...).
    """
    return json.dumps(
        _canonical(value, "value"), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def _canonical(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise AsrbuildError(f"{where} is {value}, which has no digest", key=where)
        return int(value) if value.is_integer() and abs(value) < _EXACT_FLOAT else float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise AsrbuildError(f"{where} has the key {key!r}, which is not text", key=where)
        return {key: _canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise AsrbuildError(f"{where} is a {type(value).__name__}, which has no digest", key=where)


def text_digest(text: str) -> str:
    """SHA-256 of the text in UTF-8, as hex."""
    # A path that is not UTF-8 has surrogates for its odd bytes (PEP 383).
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def file_digest(path: Path, cache_root: Path | None = None) -> str:
    """SHA-256 of a file's bytes, as hex.

    With a ``cache_root``, the digest of a large file is remembered there under the file's
    identity: inode, device, size, modification and change time in ns. All names of a file share it
    (:mod:`asrbuild.base.links`). A write changes the
    change time, which no program can set back, so an unchanged identity means unchanged bytes as
    far as the file system can tell. The memo is valid for one boot of one machine: after a power
    cut, files are read again. A file changed in the last seconds is not remembered: it may change
    once more within the same tick.

    Undetected changes: writes through a memory map that was made before the file was read, by
    the same user; a device written to directly; a file system without change times (FAT, and some
    network shares); a clock set back to the very nanosecond by the administrator.
    """
    path = Path(path)
    with disk_errors("reading a file", path):
        status = path.stat()
        if not path.is_file():
            raise AsrbuildError(f"{path.name} is not a file", file=path)
        memo = _memo_path(cache_root, status) if cache_root and status.st_size > _SMALL else None
        if memo is None:
            return _read_digest(path)
        identity = _identity(status)
        if (known := _recall(memo, identity)) is not None:
            return known
        digest = _read_digest(path)
        quiet = time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS
        if quiet and _identity(path.stat()) == identity:
            _remember(memo, path, identity, digest)
        return digest


def remember_digest(path: Path, cache_root: Path, digest: str) -> None:
    """Remembers the digest of a file that the caller just made, and that nothing else writes."""
    with disk_errors("reading a file", path):
        status = path.stat()
    if status.st_size > _SMALL:
        _remember(_memo_path(cache_root, status), path, _identity(status), digest)


def tree_digests(
    directory: Path,
    cache_root: Path | None = None,
    known: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Relative path to SHA-256 for every file below ``directory``, sorted by path.

    Files with ``known`` digests are not read.
    """
    with disk_errors("reading a directory", directory):
        return {
            name: known.get(name) or file_digest(directory / name, cache_root)
            for name in files_in(directory)
        }


def _read_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        block = memoryview(bytearray(min(max(size, 1 << 12), 1 << 20)))
        while count := stream.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def _identity(status: os.stat_result) -> list[int]:
    return [
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    ]


@lru_cache
def _boot() -> str:
    """An identity of this boot of the machine; empty where the system has none (macOS)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _memo_path(cache_root: Path, status: os.stat_result) -> Path:
    name = text_digest(f"{_boot()}\n{status.st_dev} {status.st_ino}")[:40]
    return cache_root / MEMO_FOLDER / f"{name}.json"


def _recall(memo: Path, identity: list[int]) -> str | None:
    try:
        if others_power(os.stat(memo)) and not trusts_shared():
            return None
        record = json.loads(read_plain(memo))
    except (OSError, ValueError, RecursionError):
        return None  # absent, or half-written by a crash: the file is read again
    if not isinstance(record, dict) or record.get("identity") != identity:
        return None
    digest = record.get("sha256")
    return digest if isinstance(digest, str) and len(digest) == 64 else None


def _remember(memo: Path, path: Path, identity: list[int], digest: str) -> None:
    record = {"path": os.path.abspath(path), "identity": identity, "sha256": digest}
    # The memo only saves time: on a full or read-only disk the file is simply read again.
    with suppress(OSError):
        memo.parent.mkdir(parents=True, exist_ok=True)
        # After a power cut no memo is valid.
        write_atomically(memo, canonical_json(record), durable=False)


def forget_missing(cache_root: Path) -> None:
    """Drops the memos of files that are no longer there."""
    for memo in (cache_root / MEMO_FOLDER).glob("*"):
        try:
            gone = not os.path.exists(json.loads(read_plain(memo))["path"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            gone = True
        if gone:
            with suppress(OSError):  # a folder
                memo.unlink(missing_ok=True)
