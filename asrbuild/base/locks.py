"""Kernel locks, so that one process builds an entry at a time, and names of unfinished work.

A kernel lock (``flock``) excludes the threads and processes of this machine, and other machines
where the file system passes it on (NFS, most clusters). The kernel frees it when its owner ends,
however it ends.

A lock saves work. It does not keep results whole: the rename at the end of a build does. Where a
shared folder takes no kernel locks, or does not pass them on, two machines may do the same work,
and the first result stays. Unfinished work carries the name of its machine, so that no other
machine removes it while it may be in progress.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base import interrupts
from asrbuild.base.disk import disk_errors

if TYPE_CHECKING:
    from filelock import FileLock

#: Unfinished work of another machine is removed when it is older than this.
ABANDONED_SECONDS = 24 * 3600.0
_POLL_SECONDS = 0.05
# A wait shorter than this is not worth a message.
_SILENT_SECONDS = 0.3
_NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_UNFINISHED = re.compile(r"\bm([0-9a-f]{8})-[0-9a-f]{12}\b")


@contextmanager
def hold(path: Path, *, waiting: Callable[[str], None], doing: str) -> Iterator[bool]:
    """Waits for the lock ``path`` and holds it.

    Args:
        path: the lock's file, which is made, and removed at the end.
        waiting: called once with the owner ("process 12 on host") before a wait.
        doing: completes "while ..." in the error of a folder that cannot be written.

    Yields:
        False if the folder does not support kernel locks, so that others may do the same work.

    Raises:
        AsrbuildError: the folder cannot be written.
    """
    with disk_errors(doing, path.parent):
        lock = _acquire(path, waiting)
    try:
        yield lock is not None
    finally:
        _release(lock, path)


@contextmanager
def try_hold(path: Path) -> Iterator[bool | None]:
    """Takes the lock ``path`` if it is free, and never waits.

    Yields:
        Whether it is held now; None if the folder does not support kernel locks.

    Raises:
        AsrbuildError: the folder cannot be written.
    """
    from filelock import Timeout

    with disk_errors("looking for leftovers", path.parent):
        try:
            lock = _acquire(path, None)
        except Timeout:
            yield False
            return
    try:
        yield None if lock is None else True
    finally:
        _release(lock, path)


def _acquire(path: Path, waiting: Callable[[str], None] | None) -> FileLock | None:
    """Takes the lock; None if the folder does not support locks.

    Raises ``filelock.Timeout`` if the lock is taken and ``waiting`` is None.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            first = 0.0 if waiting is None else _SILENT_SECONDS
            lock.acquire(timeout=first, poll_interval=_POLL_SECONDS)
        except Timeout:
            if waiting is None:
                raise
            waiting(_owner(path))
            lock.acquire(timeout=-1, poll_interval=_POLL_SECONDS, cancel_check=_check)
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    with suppress(OSError):  # only a message reads it
        path.write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")
    return lock


def _check() -> bool:
    interrupts.check()
    return False


def _release(lock: FileLock | None, path: Path) -> None:
    # Unlinked while held: a process that opened it meanwhile notices that and opens it anew. The
    # folder may no longer exist (`rm -r` of the cache during a build).
    with suppress(OSError):
        path.unlink(missing_ok=True)
    if lock is not None:
        lock.release()


def _owner(path: Path) -> str:
    try:
        process, _, host = path.read_text(encoding="utf-8", errors="replace").partition(" ")
    except OSError:
        process, host = "", ""
    return f"process {process} on {host}" if host else "another process"


def unfinished_name() -> str:
    """A unique name for a directory in which this machine prepares something."""
    return f"m{_machine()}-{secrets.token_hex(6)}"


def is_abandoned(path: Path, *, exact: bool) -> bool:
    """Whether the owner of unfinished work has ended; the caller holds its lock.

    Args:
        path: a file or directory with a name from :func:`unfinished_name`; any other path has no
            owner.
        exact: whether the lock is a kernel lock.
    """
    name = _UNFINISHED.search(path.name)
    if name is None or (exact and name[1] == _machine()):
        return True
    try:
        return time.time() - os.lstat(path).st_mtime > ABANDONED_SECONDS
    except OSError:
        return False  # it is gone


@functools.cache
def _machine() -> str:
    host = socket.gethostname().encode("utf-8", "surrogateescape")
    return hashlib.sha256(host).hexdigest()[:8]
