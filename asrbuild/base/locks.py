"""One builder per entry, across threads, processes and machines, and no lock outlives its owner.

Two locks are held together. A kernel lock (``flock``) serves this machine: it is exact, and the
kernel frees it when the owner dies, however it dies. A lease serves a shared folder whose kernel
locks do not reach the other machine: its owner touches it every few seconds, and a waiter takes
it after seeing no touch for ``LEASE_SECONDS`` of the waiter's own steady clock, so that machines
whose clocks differ judge alike.

A lock saves work. It is not what keeps results whole: that is the rename at the end of a build,
so a machine that was only asleep when its lease was taken does no harm when it wakes.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base import interrupts
from asrbuild.base.disk import disk_errors

if TYPE_CHECKING:
    from filelock import FileLock, SoftFileLease

LEASE_SECONDS = 60.0
# Leftovers of another machine that nobody asks for again are swept after this long in silence.
ABANDONED_SECONDS = 3600.0
_POLL_SECONDS = 0.05
# A wait shorter than this is not worth a message.
_TELL_SECONDS = 0.3
# Time for a dead owner's lease to be taken, on a busy machine too.
_TAKE_SECONDS = 1.0
_NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass
class Held:
    """A lock that is held. ``lost()``: another machine took it, believing this one dead."""

    lost: Callable[[], bool]


@contextmanager
def hold(path: Path, *, waiting: Callable[[str], None], doing: str) -> Iterator[Held]:
    """Waits for the lock ``path`` and holds it; ``waiting`` is told once who has it.

    ``doing`` completes "while ..." in the error of a folder that takes no locks.
    """
    with ExitStack() as stack:
        with disk_errors(doing, path.parent):
            held = _take(path, stack, waiting)
        yield held


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Takes the lock ``path`` if it is free or its owner is known to be dead; never waits."""
    from filelock import Timeout

    with ExitStack() as stack:
        taken = True
        with disk_errors("looking for leftovers", path.parent):
            try:
                _take(path, stack, None)
            except Timeout:
                stack.close()
                taken = False
        yield taken


def _take(path: Path, stack: ExitStack, waiting: Callable[[str], None] | None) -> Held:
    from filelock import FileLock, SoftFileLease, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lease_path = path.with_suffix(".lease")
    local = FileLock(path)
    lease = SoftFileLease(lease_path, lease_duration=LEASE_SECONDS)
    try:
        _acquire(local, lease_path, waiting, at_once=0.0)
        stack.callback(_release_local, local, path)
    except OSError as error:
        # A shared folder without kernel locks: the lease alone keeps order there.
        if error.errno not in _NO_FLOCK:
            raise
    _discard_empty(lease_path)
    try:
        _acquire(lease, lease_path, waiting)
    except Timeout:
        if not _abandoned(lease_path):
            raise
        lease_path.unlink(missing_ok=True)
        _acquire(lease, lease_path, waiting)
    stack.callback(_release_lease, lease, lease_path)
    return Held(lost=lambda: lease.compromise is not None)


def _acquire(
    lock: FileLock | SoftFileLease,
    lease_path: Path,
    waiting: Callable[[str], None] | None,
    at_once: float = _TAKE_SECONDS,
) -> None:
    """Waits for as long as it takes, or, with nobody to tell, for ``at_once`` seconds."""
    from filelock import Timeout

    try:
        first = at_once if waiting is None else _TELL_SECONDS
        lock.acquire(timeout=first, poll_interval=_POLL_SECONDS)
    except Timeout:
        if waiting is None:
            raise
        process, host = _owner(lease_path)
        waiting(f"process {process} on {host}" if process else "another process")
        # At every look; it raises when the wait is for nothing any more.
        check = interrupts.check
        lock.acquire(timeout=-1, poll_interval=_POLL_SECONDS, cancel_check=check)  # type: ignore[arg-type]


def _discard_empty(lease: Path) -> None:
    """Removes a lease without a name in it: its owner found the disk full, or was killed between
    making and writing it, and filelock would wait for it without end."""

    def state() -> tuple[int, int] | None:
        with suppress(OSError):
            found = os.stat(lease)
            if found.st_size == 0:
                return found.st_ino, found.st_mtime_ns
        return None

    seen = state()
    if seen is not None:
        time.sleep(_TAKE_SECONDS)  # another machine may be about to write it
        if state() == seen:
            lease.unlink(missing_ok=True)


def _release_local(lock: FileLock, path: Path) -> None:
    # Unlinked while held: whoever opened it meanwhile sees a file without a name and opens anew.
    with suppress(OSError):
        path.unlink(missing_ok=True)
    lock.release()


def _release_lease(lease: SoftFileLease, lease_path: Path) -> None:
    # The folder may be gone (`rm -r` of the cache during a build); the lock is gone with it.
    with suppress(OSError):
        for note in (".seen", ".clock"):
            lease_path.with_suffix(note).unlink(missing_ok=True)
        # What filelock leaves when it is killed while taking a dead owner's lease.
        for leftover in lease_path.parent.glob(f"{lease_path.name}.*"):
            leftover.unlink(missing_ok=True)
        lease.release()


def _owner(lease: Path) -> tuple[str, str]:
    """Process number and host named in a lease; empty where nobody is."""
    try:
        lines = lease.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    if "pid" not in fields or "host" not in fields:
        return "", ""
    # Behind the question mark: the container, on the same machine.
    return fields["pid"], fields["host"].split("?")[0]


def _abandoned(lease: Path) -> bool:
    """Whether nobody touched a lease since a sweep saw it an hour ago or more.

    The sweep notes what it saw in a file, for the next process to compare. That file's age is
    taken by the clock that stamps both it and a fresh file, never by the owner's.
    """
    seen, clock = lease.with_suffix(".seen"), lease.with_suffix(".clock")
    try:
        state = f"{os.stat(lease).st_mtime_ns}\n{lease.read_text(errors='replace')}"
        if not seen.exists() or seen.read_text(errors="replace") != state:
            seen.write_text(state)
            return False
        clock.touch()
        return os.stat(clock).st_mtime - os.stat(seen).st_mtime > ABANDONED_SECONDS
    except OSError:
        return False  # the lease was released, or the folder takes no notes: nothing is known
