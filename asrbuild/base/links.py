"""Hard links: large files with the same bytes are one file on the disk, under several names.

The packages of a sweep have the same weights, and an artifact has those of its cache entry. Hard
links work on ext4, XFS, APFS, NTFS and the file systems of clusters; copies that share their blocks
(reflinks) do not work on ext4 or NFS, and no system reports how much space removing one of them
frees. Where a link cannot be made (another disk, another user's file, FAT), the bytes are copied.

A change through one name changes the others. So such a file is read-only, and is linked only if its
bytes are the expected ones; checks of digests find a change under each of its names.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from asrbuild.base.digest import file_digest, remember_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.ownership import others_power, trusts_shared

#: Bytes from which a file is worth a link. Smaller ones are a hundredth of an artifact.
LARGE = 256 * 1024
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def is_large(path: Path) -> bool:
    """Whether the file is worth a link."""
    return path.stat().st_size >= LARGE


def make_read_only(path: Path) -> None:
    """Removes the write permission of all users; a read-only file is not touched."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & _WRITE:
        os.chmod(path, mode & ~_WRITE)


def link_first(candidates: Iterable[Path], target: Path, digest: str, memo_root: Path) -> bool:
    """Makes ``target`` a hard link to the first candidate that has these bytes and can be linked.

    Args:
        candidates: large files of cache entries and artifacts; they are made read-only.
        target: the new path, which does not exist.
        digest: SHA-256 of the bytes, as hex.
        memo_root: the cache that keeps digests, see :func:`asrbuild.base.digest.file_digest`.

    Returns:
        False if no candidate can be linked; ``target`` does not exist then.
    """
    return any(_link(candidate, target, digest, memo_root) for candidate in candidates)


def _link(source: Path, target: Path, digest: str, memo_root: Path) -> bool:
    try:
        before = os.lstat(source)
        if not stat.S_ISREG(before.st_mode) or before.st_size < LARGE:
            return False
        if others_power(before) and not trusts_shared():
            return False
        make_read_only(source)
        if file_digest(source, memo_root) != digest:
            return False
        os.link(source, target)
    except (OSError, AsrbuildError):
        return False  # it was removed, is on another disk, or has too many links
    # The new name changed the change time, and nothing else may have changed since it was read.
    after = os.lstat(target)
    same = ("st_ino", "st_dev", "st_size", "st_mtime_ns")
    if any(getattr(before, field) != getattr(after, field) for field in same):
        os.unlink(target)
        return False
    remember_digest(target, memo_root, digest)
    return True


class NamedFiles:
    """Counts the remaining names of files, to compute how many bytes removals free.

    Args:
        folders: only names below these count; None: all names that the file system knows of.
    """

    def __init__(self, folders: Iterable[Path] | None = None) -> None:
        self._all = folders is None
        self._left: Counter[tuple[int, int]] = Counter()
        self.bytes = 0  #: bytes of the folders, each file counted once
        for status in (s for folder in folders or () for s in _files(folder)):
            file = (status.st_dev, status.st_ino)
            self.bytes += 0 if file in self._left else status.st_size
            self._left[file] += 1

    def without(self, path: Path) -> int:
        """The bytes that removing this path frees, after the removals of earlier calls."""
        freed = 0
        for status in _files(path):
            file = (status.st_dev, status.st_ino)
            if self._all and file not in self._left:
                self._left[file] = status.st_nlink
            self._left[file] -= 1
            freed += 0 if self._left[file] else status.st_size
        return freed


def _files(path: Path) -> Iterator[os.stat_result]:
    """The files below a folder, or the file itself; files that vanish meanwhile are left out."""
    inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    paths = inside if path.is_dir() else [path]
    for each in paths:
        try:
            status = os.lstat(each)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield status
