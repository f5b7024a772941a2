"""The file format of every bundle: magic, header length, header, then the files' contents.

The whole format is docs/bundle-format.md. There is no compression, no offset table, no file mode
and no link: the size of a bundle is the sum of its parts or it is refused, so it cannot unpack to
more than was read, and only plain files can come out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from asrbuild.base import interrupts
from asrbuild.base.disk import disk_errors, sync_path
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import BUNDLE
from asrbuild.base.kinds.recognition import advice, recognise
from asrbuild.handover.ship.formats.header import MAX_HEADER, File
from asrbuild.handover.ship.refusal import Refusal, Refused, refusing

SUFFIX = ".asrb"
#: As PNG's: a first byte that is not text, then line ends that careless transfers change.
MAGIC = b"\x89ASR\r\n\x1a\n"
_LENGTH = struct.Struct("<I")
START = len(MAGIC) + _LENGTH.size
BLOCK = 1 << 20


def names_bundle(text: str) -> bool:
    """Whether a destination is a bundle's file name, not a remote's address."""
    return text.endswith(SUFFIX) and "://" not in text


def place_file(temporary: Path, target: Path) -> bool:
    """Moves a whole file to ``target`` in one step; False, without a change, if that exists."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links (FAT, some network shares): not free of races.
        if target.exists():
            return False
        os.rename(temporary, target)
    sync_path(target.parent)
    return True


@contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """A temporary name in the folder of a new file; the file there is removed if it is left."""
    path = folder / f".incoming-{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_frame(target: Path, raw: bytes, contents: Iterable[tuple[File, Path]]) -> None:
    """Writes a header and the contents that follow it; the file appears whole or not at all.

    Raises:
        AsrbuildError: ``target`` exists with other bytes, or a file changed while it was read.
    """
    with disk_errors("writing a bundle", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with incoming(target.parent) as temporary:
            with open(temporary, "wb") as stream:
                stream.write(MAGIC + _LENGTH.pack(len(raw)) + raw)
                for file, path in contents:
                    with open(path, "rb") as source:
                        copy_content(source, file, stream.write)
                stream.flush()
                os.fsync(stream.fileno())
            if not place_file(temporary, target) and not _same(temporary, target):
                raise AsrbuildError(
                    "another file exists already; a bundle is never overwritten",
                    file=target,
                    fix="choose another name, or remove it",
                )


def _same(one: Path, other: Path) -> bool:
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with open(one, "rb") as first, open(other, "rb") as second:
        while block := first.read(BLOCK):
            if block != second.read(BLOCK):
                return False
    return True


def copy_content(source: BinaryIO, file: File, write: Callable[[bytes], object]) -> None:
    """Hands on exactly the file's bytes, and refuses afterwards when they were others."""
    digest = hashlib.sha256()
    left = file.bytes
    while left:
        interrupts.check()
        block = source.read(min(BLOCK, left))
        if not block:
            raise Refused(Refusal.TRUNCATED, f"{file.path} ends {left} bytes early")
        digest.update(block)
        write(block)
        left -= len(block)
    if digest.hexdigest() != file.sha256:
        raise Refused(
            Refusal.DIGEST_MISMATCH,
            f"{file.path} does not match its digest in the header",
            fix="it was damaged or changed on its way; get it again",
        )


def _not_a_bundle(path: Path) -> Refused:
    kind = recognise(path)
    fix = advice(path, BUNDLE, kind)
    return Refused(Refusal.NOT_A_BUNDLE, f"it is {kind.what}", file=path, fix=fix)


@contextmanager
def open_frame(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A bundle's bytes, and how many there are."""
    if not path.exists():
        raise AsrbuildError("there is no such file", file=path)
    if not path.is_file():
        raise _not_a_bundle(path)
    with disk_errors("reading a bundle", path):
        # A pipe or a device must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(Refusal.NOT_A_BUNDLE, "it is not a plain file", file=path)
            with refusing(path):
                yield stream, status.st_size


def read_raw_header(stream: BinaryIO, path: Path) -> bytes:
    """The header's bytes; the stream then is at the first content.

    Raises:
        Refused: NOT_A_BUNDLE, TRUNCATED or HEADER_TOO_LARGE.
    """
    start = stream.read(START)
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise _not_a_bundle(path)
    if len(start) < START:
        raise Refused(Refusal.TRUNCATED, "it ends before its header", file=path)
    (length,) = _LENGTH.unpack(start[len(MAGIC) :])
    if length > MAX_HEADER:
        raise Refused(
            Refusal.HEADER_TOO_LARGE,
            f"the header has {length} bytes, at most {MAX_HEADER} are read",
            file=path,
        )
    raw = stream.read(length)
    if len(raw) < length:
        raise Refused(Refusal.TRUNCATED, "it ends within its header", file=path)
    return raw


def check_size(size: int, raw: bytes, contents: int, path: Path) -> None:
    """Refuses a bundle that is not as long as its parts.

    Raises:
        Refused: TRUNCATED or TRAILING_BYTES.
    """
    expected = START + len(raw) + contents
    if size < expected:
        raise Refused(Refusal.TRUNCATED, f"it has {size} bytes of {expected}", file=path)
    if size > expected:
        raise Refused(
            Refusal.TRAILING_BYTES, f"{size - expected} bytes follow its last file", file=path
        )


@contextmanager
def new_file(directory: Path, path: str) -> Iterator[Callable[[bytes], object]]:
    """Opens a new file below ``directory`` for writing; ``path`` has passed ``check_paths``."""
    target = directory / path
    with disk_errors("unpacking an artifact", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(target, flags, 0o644), "wb") as stream:
            yield stream.write
