"""What a remote is: the protocol that folders, buckets, web servers and registries fulfil."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.refusal import Refusal, Refused

MAX_RECORD = 64 << 10
MAX_INDEX = 8 << 20
_IDENTITY = re.compile(r"[!-~]{1,500}")
Sink = Callable[[bytes], object]
#: Around each file that is sent or fetched, in a thread of its own.
Notify = Callable[[File], AbstractContextManager[object]]


class Remote(Protocol):
    """Where artifacts are shipped to and pulled from. What it gives is proven by the caller.

    Names, versions and channels given to it have passed :mod:`asrbuild.handover.ship.names`.
    """

    address: str
    #: Files that may be sent to it at a time.
    writers: int
    #: The identity that the user says it has; of a mirror, that of the original.
    told: str | None

    def identity(self) -> str | None:
        """What channels' records call it; None where it does not say."""

    def claim(self) -> str:
        """Its identity, which it gets now where it has none, so that a record can be added.

        Raises:
            AsrbuildError: it takes no records.
        """

    def names(self) -> list[str]: ...
    def versions(self, name: str) -> list[str]: ...
    def channels(self, name: str) -> list[str]: ...
    def header(self, name: str, version: str) -> bytes | None: ...
    def has(self, name: str, file: File) -> bool: ...
    def sound(self, name: str, file: File, source: Path) -> bool:
        """Whether a file that is there has the bytes of ``source``, which is ``file``, as far as
        the store's own checksums tell."""

    def put(self, name: str, file: File, source: Path) -> None: ...
    def publish(self, name: str, version: str, header: bytes, files: tuple[File, ...]) -> bool:
        """Makes a version appear; False, and no change, when it is there already."""

    def fetch(self, name: str, file: File, sink: Sink) -> None: ...
    def record(self, name: str, channel: str, counter: int) -> bytes | None: ...
    def hint(self, name: str, channel: str) -> int: ...
    def add_record(self, name: str, channel: str, counter: int, record: bytes) -> bool:
        """Adds a record and moves the hint; False, and no change, when that number is taken."""

    def refresh(self) -> None:
        """Brings what is derived up to date, after a change."""


def missing(path: str, address: str) -> Refused:
    """Says that an object which a signed header needs is not there."""
    return Refused(
        Refusal.FILE_MISSING,
        f"the remote has no {path}",
        file=address,
        fix="ask who keeps it to ship the version again, which sends what is missing",
    )


def write_hint(counter: int) -> bytes:
    """``current.json``: where to begin looking for the newest record."""
    return json.dumps({"counter": counter}).encode()


def read_hint(raw: bytes | None) -> int:
    """The counter of a hint; what is missing or damaged is no hint: looking begins at the start."""
    try:
        counter = json.loads(raw or b"{}").get("counter", 0)
    except (ValueError, AttributeError, RecursionError):
        return 0
    return counter if type(counter) is int and 0 < counter < 1 << 31 else 0


def read_identity(raw: bytes | None, key: str) -> str | None:
    """The identity in ``remote.json`` or ``index.json``; None where there is none."""
    try:
        identity = json.loads(raw or b"{}").get(key)
    except (ValueError, AttributeError, RecursionError):
        return None
    return identity if is_identity(identity) else None


def is_identity(value: object) -> bool:
    """Whether this can be what a remote is called: an address, or a number's URN."""
    return isinstance(value, str) and _IDENTITY.fullmatch(value) is not None
