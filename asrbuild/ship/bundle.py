"""An artifact as one file: magic, header length, header, then the files' bytes one after another.

The whole format is docs/bundle-format.md. There is no compression, no offset table, no file mode
and no link: the size of a bundle is the sum of its parts or it is refused, so nothing can unpack
to more than was read, and nothing but plain files can come out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from asrbuild.disk import disk_errors, sync_path
from asrbuild.errors import AsrbuildError
from asrbuild.ship.header import (
    MAX_HEADER,
    File,
    Header,
    check_header,
    check_manifest,
    make_header,
    parse_header,
)
from asrbuild.ship.keys import Signer, Trust, Trusted
from asrbuild.ship.refusal import Refusal, Refused

SUFFIX = ".asrb"
#: As PNG's: a first byte that is no text, then line ends that careless transfers change.
MAGIC = b"\x89ASR\r\n\x1a\n"
_LENGTH = struct.Struct("<I")
START = len(MAGIC) + _LENGTH.size
BLOCK = 1 << 20


@dataclass(frozen=True)
class Opened:
    """A bundle whose header, signature and every digest are proven; ``key`` signed it."""

    header: Header
    key: Trusted


def place_file(temporary: Path, target: Path) -> bool:
    """Moves a whole file to ``target`` in one step; False, and no change, when that exists."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links (FAT, some network shares): next best, not race-free.
        if target.exists():
            return False
        os.rename(temporary, target)
    sync_path(target.parent)
    return True


@contextmanager
def incoming(folder: Path) -> Iterator[Path]:
    """A name for a file in the making, beside where it will be; whatever is left is removed."""
    path = folder / f".incoming-{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_bundle(artifact: Path, target: Path, signer: Signer) -> Header:
    """Writes an artifact as one file, which appears whole; the same content gives the same bytes.

    Raises:
        AsrbuildError: something else is at ``target``, or a file changed while it was read.
    """
    from asrbuild.manifest import read_manifest

    header = make_header(artifact, read_manifest(artifact), signer)
    with disk_errors("writing a bundle", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with incoming(target.parent) as temporary:
            with open(temporary, "wb") as stream:
                stream.write(MAGIC + _LENGTH.pack(len(header.raw)) + header.raw)
                for file in header.files:
                    with open(artifact / file.path, "rb") as source:
                        _copy(source, file, stream.write)
                stream.flush()
                os.fsync(stream.fileno())
            if not place_file(temporary, target) and not _same(temporary, target):
                raise AsrbuildError(
                    "something else is there already; a bundle is never overwritten",
                    file=target,
                    fix="choose another name, or remove it",
                )
    return header


def _same(one: Path, other: Path) -> bool:
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with open(one, "rb") as first, open(other, "rb") as second:
        while block := first.read(BLOCK):
            if block != second.read(BLOCK):
                return False
    return True


def _copy(source: BinaryIO, file: File, write: Callable[[bytes], object]) -> None:
    """Hands on exactly the file's bytes, and refuses afterwards when they were others."""
    digest = hashlib.sha256()
    left = file.bytes
    while left:
        block = source.read(min(BLOCK, left))
        if not block:
            raise Refused(Refusal.TRUNCATED, f"{file.path} ends {left} bytes early")
        digest.update(block)
        write(block)
        left -= len(block)
    if digest.hexdigest() != file.sha256:
        raise Refused(
            Refusal.DIGEST_MISMATCH,
            f"{file.path} has another digest than its header says",
            fix="it was damaged or changed on its way; get it again",
        )


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    if not path.exists():
        raise AsrbuildError("there is no such file", file=path)
    with disk_errors("reading a bundle", path):
        # A pipe or a device must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(Refusal.NOT_A_BUNDLE, "it is no plain file", file=path)
            yield stream, status.st_size


def is_bundle(path: Path) -> bool:
    """Whether a plain file begins as a bundle does."""
    if not path.is_file():
        return False
    with _open(path) as (stream, _):
        return stream.read(len(MAGIC)) == MAGIC


def _read_header(stream: BinaryIO, size: int, path: Path) -> Header:
    start = stream.read(START)
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise Refused(Refusal.NOT_A_BUNDLE, "it does not begin as a bundle does", file=path)
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
    header = parse_header(raw)
    expected = START + length + header.total
    if size < expected:
        raise Refused(Refusal.TRUNCATED, f"it has {size} bytes of {expected}", file=path)
    if size > expected:
        raise Refused(
            Refusal.TRAILING_BYTES, f"{size - expected} bytes follow its last file", file=path
        )
    return header


def read_bundle_header(path: Path) -> Header:
    """The header alone, its signature unchecked: for listing what a file claims to be."""
    with _open(path) as (stream, size):
        return _read_header(stream, size, path)


def check_bundle(path: Path, trust: Trust) -> Opened:
    """Proves a bundle without unpacking it: its shape, signature and every digest.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    with _open(path) as (stream, size):
        return _check(stream, size, path, trust)


def _check(stream: BinaryIO, size: int, path: Path, trust: Trust) -> Opened:
    header = _read_header(stream, size, path)
    key = check_header(header, trust)
    for file in header.files:
        _copy(stream, file, lambda _: None)
    return Opened(header, key)


def unpack_bundle(path: Path, directory: Path, trust: Trust) -> Opened:
    """Proves a bundle, then writes its files into an empty directory of ours.

    Everything is proven before the first byte is written. The bytes are proven again as they are
    written, so that a file that changes between the two readings is refused as well; the caller
    throws the directory away then.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    from asrbuild.manifest import read_manifest

    with _open(path) as (stream, size):
        opened = _check(stream, size, path, trust)
        stream.seek(START + len(opened.header.raw))
        for file in opened.header.files:
            with new_file(directory, file.path) as write:
                _copy(stream, file, write)
    check_manifest(opened.header, read_manifest(directory))
    return opened


@contextmanager
def new_file(directory: Path, path: str) -> Iterator[Callable[[bytes], object]]:
    """Opens a new file below ``directory`` for writing; ``path`` has passed ``check_paths``."""
    target = directory / path
    with disk_errors("unpacking an artifact", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(target, flags, 0o644), "wb") as stream:
            yield stream.write
