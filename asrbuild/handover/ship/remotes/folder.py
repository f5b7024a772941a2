"""A remote in a folder, local or shared: every object is a file that appears whole.

fsspec's local file system writes in place, so that a reader could see half a file and a killed
writer would leave one; this module does not.
"""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from asrbuild.base.digest import file_digest
from asrbuild.base.disk import disk_errors, sync_path
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import IO_THREADS
from asrbuild.handover.ship.formats.frame import BLOCK, copy_content, incoming, place_file
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.objects import Stored
from asrbuild.handover.ship.remotes.remote import MAX_RECORD, Sink, missing, read_identity

_IDENTITY = "remote.json"
#: Files of a killed writer are removed by the next one, once they are too old to be still written.
_ABANDONED_SECONDS = 24 * 3600


def require_no_store(remote: Path, artifact: Path) -> None:
    """Refuses a remote that overlaps the artifact store: both use a folder ``artifacts``.

    Raises:
        AsrbuildError: the remote would lie in the store that holds the artifact, or over it.
    """
    place, store = remote.resolve(), artifact.resolve().parent.parent
    if store in (place, place / "artifacts") or store in place.parents:
        raise AsrbuildError(
            "this folder holds the artifact store, or is in it",
            file=remote,
            fix="ship to a folder of its own",
        )


class Folder:
    """Objects as files below ``root``."""

    writers = IO_THREADS

    def __init__(self, root: Path) -> None:
        # Seen channels are remembered by address, which must not depend on the current folder.
        self.root = root.absolute()
        self.address = os.path.abspath(root)

    def identity(self) -> str | None:
        # A path means nothing on other machines and is private: the identity is a UUID.
        return read_identity(self.read(_IDENTITY, MAX_RECORD), "id")

    def claim(self) -> str:
        fields = {"format": "asrbuild-remote/1", "id": uuid.uuid4().urn}
        self.create(_IDENTITY, (json.dumps(fields) + "\n").encode())
        if (identity := self.identity()) is None:
            raise AsrbuildError(
                "the identity of the remote cannot be read",
                file=self.root / _IDENTITY,
                fix="restore the file; readers know the remote by it",
            )
        return identity

    def size(self, path: str) -> int | None:
        with reading(self.root / path):
            try:
                return (self.root / path).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(self, path: str, limit: int) -> bytes | None:
        with reading(self.root / path):
            stream = _open_file(self.root / path)
            if stream is None:
                return None
            with stream:
                content = stream.read(limit + 1)
        if len(content) > limit:
            raise Refused(Refusal.TOO_LARGE, f"more than {limit} bytes", file=self.root / path)
        return content

    def fetch(self, path: str, size: int, sink: Sink) -> None:
        with reading(self.root / path):
            stream = _open_file(self.root / path)
            if stream is None:
                raise missing(path, self.address)
            with stream:
                left = size
                while left and (block := stream.read(min(BLOCK, left))):
                    sink(block)
                    left -= len(block)

    def create(self, path: str, content: bytes) -> bool:
        return self._create(path, lambda write: write(content))

    def send(self, path: str, file: File, source: Path, *, replace: bool = False) -> bool:
        def copy(write: Sink) -> None:
            with disk_errors("reading an artifact", source), open(source, "rb") as stream:
                copy_content(stream, file, write)

        if replace:
            self._replace(path, copy)
            return True
        return self._create(path, copy)

    def sound(self, path: str, file: File, source: Path) -> bool:
        # A folder has no checksums of its own: every byte is read.
        with reading(self.root / path):
            return file_digest(self.root / path) == file.sha256

    def _create(self, path: str, fill: Callable[[Sink], object]) -> bool:
        target = self.root / path
        with disk_errors("writing to a remote", self.root):
            if target.exists():
                return False
            self._make_folder(target.parent)
            with incoming(target.parent) as temporary:
                _write(temporary, fill)
                return place_file(temporary, target)

    def replace(self, path: str, content: bytes) -> None:
        self._replace(path, lambda write: write(content))

    def _replace(self, path: str, fill: Callable[[Sink], object]) -> None:
        target = self.root / path
        with disk_errors("writing to a remote", self.root):
            self._make_folder(target.parent)
            with incoming(target.parent) as temporary:
                _write(temporary, fill)
                os.replace(temporary, target)
                sync_path(target.parent)

    def remove(self, path: str) -> None:
        with disk_errors("removing from a remote", self.root):
            (self.root / path).unlink(missing_ok=True)

    def names_in(self, folder: str) -> list[str] | None:
        with reading(self.root / folder):
            try:
                names = os.listdir(self.root / folder)
            except (FileNotFoundError, NotADirectoryError):
                if not self.root.is_dir():
                    raise AsrbuildError(
                        "the remote does not exist",
                        file=self.root,
                        fix="name the folder that `asrbuild ship` wrote to",
                    ) from None
                return []
        return sorted(name for name in names if not name.startswith("."))

    def entries(self, folder: str) -> list[Stored]:
        entries = []
        for name in self.names_in(folder) or []:
            with reading(self.root / folder), suppress(FileNotFoundError):
                status = (self.root / folder / name).stat()
                if stat.S_ISREG(status.st_mode):
                    entries.append(Stored(name, status.st_size, status.st_mtime))
        return entries

    def move(self, path: str, to: str) -> None:
        target = self.root / to
        with disk_errors("writing to a remote", self.root), suppress(FileNotFoundError):
            target.parent.mkdir(exist_ok=True)
            os.replace(self.root / path, target)

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        for left in folder.glob(".incoming-*"):
            with suppress(FileNotFoundError):  # another writer has just removed it
                if now - left.lstat().st_mtime > _ABANDONED_SECONDS:
                    left.unlink()


def _write(target: Path, fill: Callable[[Sink], object]) -> None:
    with open(target, "xb") as stream:

        def write(block: bytes) -> None:
            with disk_errors("writing to a remote", target):
                stream.write(block)

        fill(write)
        stream.flush()
        os.fsync(stream.fileno())


def _open_file(path: Path) -> BinaryIO | None:
    """A plain file to read, None if there is none; a pipe, which could block, is refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    stream = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise Refused(Refusal.RECORD_MALFORMED, "it is not a plain file", file=path)
    return stream


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Says which folder or file of a remote the system refused to read."""
    try:
        yield
    except OSError as error:
        raise AsrbuildError(f"the remote cannot be read: {error.strerror}", file=path) from error
