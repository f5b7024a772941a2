"""Directories that appear whole or not at all, and a disk's refusals in words a user can act on."""

from __future__ import annotations

import codecs
import errno
import functools
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import TEXT
from asrbuild.base.kinds.recognition import require

_FULL = {errno.ENOSPC, errno.EDQUOT}
#: No matter which file was being written: the disk is at fault.
FATAL = {*_FULL, errno.EROFS, errno.EFBIG}
#: The environment variable that trusts other users' caches and stores.
SHARED = "ASRBUILD_TRUST_SHARED"
_DENIED = {errno.EACCES, errno.EPERM}
_REFUSED = {
    errno.EROFS: "is on a read-only file system",
    errno.ENOTDIR: "cannot be written: a part of its path is a file, not a directory",
    errno.EEXIST: "cannot be written: something else has that name",
}
# Below this much free space, a library's own "write failed" is taken for a full disk.
_NEARLY_NOTHING = 1 << 20


def disk_problem(error: OSError, doing: str, path: Path) -> AsrbuildError:
    """Says in words what the disk refused; ``doing`` completes "while ..."."""
    file = error.filename if isinstance(error.filename, str) else path
    if error.errno in _FULL:
        return AsrbuildError(
            f"no space is left on the disk, while {doing}",
            file=file,
            fix="free some space (`asrbuild cache clear` removes cached stages) or use another "
            "disk",
        )
    if error.errno == errno.EFBIG:
        return AsrbuildError(
            f"the file is larger than this system allows, while {doing}",
            file=file,
            fix="raise the limit (`ulimit -f`) or use another disk",
        )
    if error.errno in _DENIED:
        # Reading or writing: what was done says it.
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


@contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turns every ``OSError`` of our own file work into an ``AsrbuildError``."""
    try:
        yield
    except OSError as error:
        raise disk_problem(error, doing, path) from error


@contextmanager
def full_disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Around other people's writing: a full or read-only disk is named, all else passes through.

    Libraries report a failed write in their own ways, so an error on a disk with next to no space
    left is put down to that; so is one that an ``AsrbuildError`` was raised from. ``path`` and the
    folder for temporary files are looked at.
    """
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, AsrbuildError) else error
        if isinstance(cause, OSError) and cause.errno in FATAL:
            raise disk_problem(cause, doing, path) from error
        told = cause is None or isinstance(cause, AsrbuildError)
        if not told and (not isinstance(cause, OSError) or cause.errno is None):
            for folder in (path, _temporary_folder()):
                if _is_full(folder):
                    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    raise disk_problem(full, doing, folder) from error
        raise


def decode_text(data: bytes) -> str:
    """The text of a file that a person wrote: UTF-8, or UTF-16 as Windows writes it.

    A byte order mark is not part of the text. UTF-16 without one is known by the zero byte that
    each letter of ASCII has.

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16")
    if len(data) > 1 and (data[0] == 0) != (data[1] == 0):
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    return data.decode("utf-8-sig")


def read_text(path: Path) -> str:
    """A text file that a person wrote, see :func:`decode_text`; lines end with a line feed.

    Raises:
        AsrbuildError: it is missing, a folder, unreadable or in another encoding.
    """
    require(path, TEXT)
    try:
        return io.StringIO(decode_text(path.read_bytes()), newline=None).read()
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            f"not UTF-8 text (byte {error.start})", file=path, fix="save it as UTF-8"
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}", file=path) from error


def _temporary_folder() -> Path:
    import tempfile

    try:
        return Path(tempfile.gettempdir())
    except OSError:  # none can be written to, as on a full disk
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NEARLY_NOTHING
    except OSError:
        return False


def files_in(directory: Path) -> list[str]:
    """Every file below ``directory``, as sorted relative paths with forward slashes.

    Raises:
        AsrbuildError: there is something else than files and directories (a link, a socket).
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
    """A small file of ours that somebody else may have put something in the place of.

    Raises:
        OSError: it cannot be read, is no plain file (a FIFO would be waited for), or has more than
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


def keep_to_oneself() -> None:
    """From now on, only its own user may change what this process makes."""
    if not trusts_shared():
        os.umask(os.umask(0o077) | 0o022)


def trusts_shared() -> bool:
    """Whether the user trusts all who can write to the cache and the store: ``SHARED`` is set."""
    return os.environ.get(SHARED, "").lower() not in ("", "0", "false", "no")


def require_own(*paths: Path, sharable: bool = True) -> None:
    """Refuses files and folders that another user could have made or changed; absent ones are fine.

    The administrator (user 0) is trusted, and a group that has the user's name and no other member.

    Args:
        paths: what is looked at.
        sharable: whether the user may choose to trust others with it; not with keys.

    Raises:
        AsrbuildError: one belongs to another user, or another user may write to it.
    """
    if sharable and trusts_shared():
        return
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue  # what cannot be seen is not used
        if (problem := others_power(status)) is not None:
            fix = (
                f"see what is there, then take it from them: chown -R $USER {path}; chmod -R go-w "
            )
            fix += f"{path}"
            if sharable:
                fix += (
                    "; or name another place; or, if you trust all who can write there, set "
                    f"paths.trust_shared=true, or {SHARED}=1 for commands"
                )
            raise AsrbuildError(
                f"{path} {problem}, who could have put anything there",
                key="paths.trust_shared" if sharable else None,
                file=path,
                fix=fix,
            )


def others_power(status: os.stat_result) -> str | None:
    """What another user than this one could do to a file or folder; None for nothing."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (number {status.st_uid})"
    if status.st_mode & stat.S_IWOTH:
        return "can be written by every user"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
        return f"can be written by all of the group {status.st_gid}"
    return None


@functools.cache
def _is_own_group(gid: int) -> bool:
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and not {*group.gr_mem} - {user.pw_name}


def stays_inside(path: str) -> bool:
    """Whether a relative path is plain: forward slashes, no part that leads up, nothing to fold.

    Every system takes it: a part has at most 255 bytes, the whole at most 1,024.
    """
    parts = path.split("/")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    return (
        not {"", ".", ".."} & set(parts)
        and not any(c in path for c in "\\\0\n\r")
        and max(sizes) <= 255
        and sum(sizes) + len(sizes) <= 1025
    )


def sync_tree(directory: Path) -> None:
    """Forces every file and directory below ``directory``, and itself, to the disk."""
    from concurrent.futures import ThreadPoolExecutor

    paths = [
        Path(folder, name) for folder, _, names in os.walk(directory) for name in [*names, "."]
    ]
    # Side by side: a file system's journal takes what waits for it in one go.
    with ThreadPoolExecutor(max_workers=16) as threads:
        list(threads.map(sync_path, paths))


def sync_path(path: Path) -> None:
    """Forces one file or directory to the disk; file systems that cannot say so are let be."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file so that a reader sees the old text or the new, never a part."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rename_directory(source: Path, target: Path) -> bool:
    """Moves a directory into place in one step; False when something is at ``target`` already."""
    try:
        os.rename(source, target)
    except OSError as error:
        # What each system says of a target that is there: Linux and macOS, and a file in the way.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    sync_path(target.parent)
    return True


def exchange_paths(one: Path, other: Path) -> bool:
    """Swaps what two paths name in one step; False, and no change, where that cannot be done.

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
    """Removes a directory, read-only or not; one that is gone already is fine."""

    def unlock(function: Callable[[str], object], path: str, _: object) -> None:
        if not os.path.lexists(path):
            return
        for blocked in (os.path.dirname(path), path):
            if not os.path.islink(blocked):
                os.chmod(blocked, os.stat(blocked).st_mode | stat.S_IRWXU)
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(Path(path))
        else:
            os.unlink(path)

    if directory.is_symlink() or directory.is_file():
        directory.unlink(missing_ok=True)
    elif directory.exists():
        shutil.rmtree(directory, onerror=unlock)


#: Bytes of a name that stand for themselves in a file's name.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
#: Names that Windows keeps for devices, whatever follows a dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
_LONGEST_NAME = 180


def file_names(names: Iterable[str]) -> dict[str, str]:
    """File names, without a suffix, for names that others chose: of an output, a tensor, a label.

    Every file name is one component of a path on any system, so no name chooses where a file goes;
    and different names never share a file. ASCII letters, digits, ``_``, ``-`` and ``.`` stand for
    themselves, every other byte of the name's UTF-8 is ``%`` and two hexadecimal digits, as in a
    URL; so are a dot at either end and the first letter of a device of Windows. A long name, and
    names that differ only in upper and lower case, which many file systems take for the same, end
    with ``%-`` and a digest of the name::

        logits       logits          ../x      %2E.%2Fx
        net/in:0     net%2Fin%3A0    nul       %6Eul
        x and X      x%-1f0a2b…      (empty)   %
    """
    plain = {name: _file_name(name) for name in names}
    alike = Counter(short.casefold() for short in plain.values())
    return {
        name: _with_digest(short, name) if alike[short.casefold()] > 1 else short
        for name, short in plain.items()
    }


def _file_name(name: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    quoted = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)
    if _DEVICES.match(quoted) or quoted.startswith("."):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if quoted.endswith("."):
        quoted = f"{quoted[:-1]}%2E"
    if len(quoted) > _LONGEST_NAME:
        return _with_digest(quoted, name)
    return quoted or "%"


def _with_digest(short: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{short[: _LONGEST_NAME - 20]}%-{digest}"
