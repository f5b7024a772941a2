"""Atomic directories and files, and disk errors as messages with a fix."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asrbuild.base.errors import AsrbuildError

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: Errors of the disk, whichever file was being written.
FATAL = {*_FULL, errno.EROFS, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM}
_REFUSED = {
    errno.EROFS: "is on a read-only file system",
    errno.ENOTDIR: "cannot be written: a part of its path is a file, not a directory",
    errno.EEXIST: "cannot be written: something else has that name",
}
# With less free space than this, a library's own "write failed" counts as a full disk.
_NEARLY_NOTHING = 1 << 20


def disk_problem(error: OSError, doing: str, path: Path) -> AsrbuildError:
    """The ``AsrbuildError`` for an ``OSError``; ``doing`` completes "while ..."."""
    file = error.filename if isinstance(error.filename, str) else path
    if error.errno in _FULL:
        return AsrbuildError(
            f"no space is left on the disk, while {doing}",
            file=file,
            fix="free some space (`asrbuild cache remove` removes cached stages) or use another "
            "disk",
        )
    if error.errno == errno.EFBIG:
        return AsrbuildError(
            f"the file is larger than this system allows, while {doing}",
            file=file,
            fix="raise the limit (`ulimit -f`) or use another disk",
        )
    if error.errno in _DENIED:
        # ``doing`` says whether it was read or written.
        return AsrbuildError(
            f"{path}: permission denied, while {doing}",
            file=file,
            fix="change its permissions, or name another place",
        )
    if error.errno in _REFUSED:
        return AsrbuildError(
            f"{path} {_REFUSED[error.errno]}, while {doing}",
            file=file,
            fix="choose a directory you can write to, or change its permissions",
        )
    reason = error.strerror or str(error)
    return AsrbuildError(
        f"the system refused: {reason}, while {doing}",
        file=file,
        fix="`asrbuild doctor` shows the folders in use; check the disk, or name another place",
    )


def require_writable(path: Path, doing: str, key: str) -> None:
    """Raises, before any work, if a folder or file could not be written later.

    Args:
        path: what will be written; it and folders above it may be missing.
        doing: completes "while ...".
        key: the config key or option that names it.

    Raises:
        AsrbuildError: the permission is missing, or the disk is read-only.
    """
    there = path.absolute()
    while not os.path.exists(there):
        there = there.parent
    if os.access(there, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return
    read_only = os.statvfs(there).f_flag & os.ST_RDONLY
    code = errno.EROFS if read_only else errno.EACCES
    problem = disk_problem(OSError(code, os.strerror(code), str(path)), doing, path)
    problem.key = key
    raise problem


@contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turns every ``OSError`` of asrbuild's own file operations into an ``AsrbuildError``."""
    try:
        yield
    except OSError as error:
        raise disk_problem(error, doing, path) from error


@contextmanager
def full_disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Reports a full or read-only disk while a library writes; other errors pass through.

    Libraries report a failed write in their own ways, so an error on a disk with next to no space
    left is reported as a full disk; so is an error that caused an ``AsrbuildError``. It checks the
    disks of ``path`` and of the folder for temporary files.
    """
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, AsrbuildError) else error
        if isinstance(cause, OSError) and cause.errno in FATAL:
            raise disk_problem(cause, doing, path) from error
        final = cause is None or isinstance(cause, AsrbuildError)
        if not final and (not isinstance(cause, OSError) or cause.errno is None):
            for folder in (path, _temporary_folder()):
                if _is_full(folder):
                    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    raise disk_problem(full, doing, folder) from error
        raise


def _temporary_folder() -> Path:
    import tempfile

    try:
        return Path(tempfile.gettempdir())
    except OSError:  # no temporary folder is writable, as on a full disk
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NEARLY_NOTHING
    except OSError:
        return False


def files_in(directory: Path) -> list[str]:
    """Every file below ``directory``, as sorted relative paths with forward slashes.

    Raises:
        AsrbuildError: the directory has something other than files and directories (a link, a
        socket).
    """
    found: list[str] = []

    def walk(folder: str, prefix: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    walk(entry.path, f"{prefix}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append(prefix + entry.name)
                else:
                    raise AsrbuildError(
                        f"{prefix}{entry.name} is a link or a device, not a file",
                        file=entry.path,
                        fix="replace it with a plain file",
                    )

    walk(str(directory), "")
    return sorted(found)


def read_plain(path: Path, limit: int = 1 << 24) -> bytes:
    """The bytes of a small file that may have been replaced by something else.

    Raises:
        OSError: it cannot be read, is not a plain file (a FIFO would block), or has more than
            ``limit`` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return content


def sync_tree(directory: Path) -> None:
    """Forces every file and directory below ``directory``, and itself, to the disk."""
    from concurrent.futures import ThreadPoolExecutor

    paths = [
        Path(folder, name) for folder, _, names in os.walk(directory) for name in [*names, "."]
    ]
    # Concurrently: a file system's journal commits all waiting writes at once.
    with ThreadPoolExecutor(max_workers=16) as threads:
        list(threads.map(sync_path, paths))


def sync_path(path: Path) -> None:
    """Forces a file or directory to the disk; ignored where the file system has no fsync."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes a small file so that a reader sees the old text or the new text, never a part.

    ``durable``: force it to the disk, so that this holds after a power cut, too.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rename_directory(source: Path, target: Path) -> bool:
    """Moves a directory into place in one step; False if ``target`` exists already."""
    try:
        os.rename(source, target)
    except OSError as error:
        # The codes for an existing target: of Linux, of macOS, and of a file in the way.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    sync_path(target.parent)
    return True


def exchange_paths(one: Path, other: Path) -> bool:
    """Swaps the files or folders of two paths in one step; False, without a change, if it cannot.

    Linux: ``renameat2(RENAME_EXCHANGE)``; macOS: ``renamex_np(RENAME_SWAP)``.
    """
    import ctypes

    names = os.fsencode(one), os.fsencode(other)
    current, swap = -100, 2  # AT_FDCWD of Linux; the flag is the same on both systems
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            code = libc.renamex_np(*names, ctypes.c_uint(swap))
        else:
            code = libc.renameat2(current, names[0], current, names[1], ctypes.c_uint(swap))
        return bool(code == 0)
    except (AttributeError, OSError):
        return False  # a C library without it


def remove_tree(directory: Path) -> None:
    """Removes a directory, read-only or not, if it exists."""

    def unlock(function: Callable[[str], object], path: str, _: object) -> None:
        if not os.path.lexists(path):
            return
        for blocked in (os.path.dirname(path), path):
            # Never a file: it may have other names (hard links), which stay read-only.
            if os.path.isdir(blocked) and not os.path.islink(blocked):
                os.chmod(blocked, os.stat(blocked).st_mode | stat.S_IRWXU)
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(Path(path))
        else:
            os.unlink(path)

    if directory.is_symlink() or directory.is_file():
        directory.unlink(missing_ok=True)
    elif directory.exists():
        shutil.rmtree(directory, onerror=unlock)


def tree_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
