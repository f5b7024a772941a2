"""The protocol of a remote, which folders, buckets, web servers and registries implement."""

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
#: Of a signed evidence file: its document's most bytes, as base64 in an envelope.
MAX_EVIDENCE = 24 << 20
_IDENTITY = re.compile(r"[!-~]{1,500}")
Sink = Callable[[bytes], object]
#: A context around each file that is sent or fetched, entered in that file's thread.
NotifyFile = Callable[[File], AbstractContextManager[object]]


class Remote(Protocol):
    """A place that artifacts are shipped to and pulled from; the caller proves what it returns.

    Names, versions and channels passed to it have been checked by
    :mod:`asrbuild.handover.ship.names`.
    """

    address: str
    #: How many files may be sent to it at a time.
    writers: int
    #: The identity that the user requires; of a mirror, that of the original.
    required_identity: str | None

    def identity(self) -> str | None:
        """The remote's name in the records of its channels; None if it does not state one."""

    def claim(self) -> str:
        """Returns its identity, after making one if it has none, so that a record can be added.

        Raises:
            AsrbuildError: it cannot hold channels.
        """

    def names(self) -> list[str]: ...
    def versions(self, name: str) -> list[str]: ...
    def channels(self, name: str) -> list[str]: ...
    def header(self, name: str, version: str) -> bytes | None: ...
    def has(self, name: str, file: File) -> bool: ...
    def sound(self, name: str, file: File, source: Path) -> bool:
        """Whether a file on the remote has the bytes of ``source``.

        It uses the store's own checksum, if there is one.
        """

    def put(self, name: str, file: File, source: Path) -> None: ...
    def publish(self, name: str, version: str, header: bytes, files: tuple[File, ...]) -> bool:
        """Makes a version appear; False, without a change, if it exists."""

    def fetch(self, name: str, file: File, sink: Sink) -> None: ...
    def record(self, name: str, channel: str, counter: int) -> bytes | None: ...
    def hint(self, name: str, channel: str) -> int: ...
    def add_record(self, name: str, channel: str, counter: int, record: bytes) -> bool:
        """Adds a record and moves the hint; False, without a change, if the counter is taken."""

    def evidence(self, name: str, version: str) -> list[str] | None:
        """Digests of the evidence files of a version; None: the remote keeps no evidence."""

    def read_evidence(self, name: str, version: str, digest: str) -> bytes | None: ...
    def add_evidence(self, name: str, version: str, digest: str, evidence: bytes) -> bool:
        """Adds a signed evidence file; False, without a change, if it exists.

        Raises:
            AsrbuildError: the remote keeps no evidence.
        """

    def refresh(self) -> None:
        """Updates the derived files after a change."""


def missing(path: str, address: str) -> Refused:
    """The refusal that an object which a signed header needs is missing."""
    return Refused(
        Refusal.FILE_MISSING,
        f"the remote has no {path}",
        file=address,
        fix="ask the remote's keeper to ship the version again, which sends missing files",
    )


def write_hint(counter: int) -> bytes:
    """``current.json``: where to begin looking for the newest record."""
    return json.dumps({"counter": counter}).encode()


def read_hint(raw: bytes | None) -> int:
    """The counter of a hint; 0 if it is missing or damaged, so that reading begins at the start."""
    try:
        counter = json.loads(raw or b"{}").get("counter", 0)
    except (ValueError, AttributeError, RecursionError):
        return 0
    return counter if type(counter) is int and 0 < counter < 1 << 31 else 0


def read_identity(raw: bytes | None, key: str) -> str | None:
    """The identity in ``remote.json`` or ``index.json``; None if there is none."""
    try:
        identity = json.loads(raw or b"{}").get(key)
    except (ValueError, AttributeError, RecursionError):
        return None
    return identity if is_identity(identity) else None


def is_evidence(name: str) -> bool:
    """Whether this can be the digest that an evidence file is named by."""
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def is_identity(value: object) -> bool:
    """Whether this can be a remote's identity: an address, or the URN of a UUID."""
    return isinstance(value, str) and _IDENTITY.fullmatch(value) is not None
