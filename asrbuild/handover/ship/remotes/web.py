"""A remote read over HTTP: any web server in front of a folder or bucket that was shipped to."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.remotes.http import ask, blocks, read_all, unexpected
from asrbuild.handover.ship.remotes.remote import MAX_INDEX, Sink, missing, read_identity


class Web:
    """Objects below an address; they can be read, not written and not listed."""

    writers = 1

    def __init__(self, address: str) -> None:
        # A host's case has no meaning, and seen channels are remembered by address.
        parts = urlsplit(address)
        self.address = parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")

    def identity(self) -> str | None:
        return read_identity(self.read("index.json", MAX_INDEX), "remote")

    def claim(self) -> str:
        self._refuse()

    def size(self, path: str) -> int | None:
        with ask("HEAD", self._at(path)) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200 or not answer.headers.get("content-length", "").isdigit():
                raise unexpected(answer, "looking for an object")
            return int(answer.headers["content-length"])

    def read(self, path: str, limit: int) -> bytes | None:
        with ask("GET", self._at(path)) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise unexpected(answer, "reading an object")
            return read_all(answer, limit)

    def fetch(self, path: str, size: int, sink: Sink) -> None:
        with ask("GET", self._at(path)) as answer:
            if answer.status == 404:
                raise missing(path, self.address)
            if answer.status != 200:
                raise unexpected(answer, "reading an object")
            for block in blocks(answer, size):
                sink(block)

    def create(self, path: str, content: bytes) -> bool:
        self._refuse()

    def send(self, path: str, file: File, source: Path, *, replace: bool = False) -> bool:
        self._refuse()

    def sound(self, path: str, file: File, source: Path) -> bool:
        self._refuse()

    def replace(self, path: str, content: bytes) -> None:
        self._refuse()

    def remove(self, path: str) -> None:
        self._refuse()

    def names_in(self, folder: str) -> list[str] | None:
        return None  # a web server cannot list

    def entries(self, folder: str) -> NoReturn:
        self._refuse()

    def move(self, path: str, to: str) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise AsrbuildError(
            "a remote over HTTP is read-only",
            file=self.address,
            fix="name the folder or bucket behind it",
        )

    def _at(self, path: str) -> str:
        return f"{self.address}/{quote(path)}"
