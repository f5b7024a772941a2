"""The layout of a remote in a folder, an object store or behind a web server.

    blobs/<sha256>                                    one file of any artifact, by its digest
    artifacts/<name>/versions/<version>.json          a bundle's header; written last, never again
    artifacts/<name>/channels/<channel>/<n>.json      the n-th signed record of a channel
    artifacts/<name>/channels/<channel>/current.json  {"counter": n}: where to begin reading
    artifacts/<name>/evidence/<version>/<sha256>.json signed evidence of devices; only ever added
    trash/<sha256>                                    what a clean-up is about to remove
    remote.json                                       a folder's identity: records are bound to it
    index.json                                        names, versions, channels: for HTTP, which
                                                      cannot list; made anew after every change

A version is there when its header is, and its header is written when every blob is: a push that is
killed leaves blobs that no header names, and the next push finds them and goes on from there.
Records are only ever added. ``current.json`` and ``index.json`` are hints that are not trusted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.formats.header import MAX_HEADER, File
from asrbuild.handover.ship.names import check_name, check_version, is_channel
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.remote import (
    MAX_EVIDENCE,
    MAX_INDEX,
    MAX_RECORD,
    Sink,
    is_evidence,
    read_hint,
    write_hint,
)

INDEX_FORMAT = "asrbuild-index/1"
_CURRENT = "current"
#: Only another push at the same moment makes a second or third one needed.
_MOST_REFRESHES = 10


@dataclass(frozen=True)
class Stored:
    """One object: its name below its folder, its bytes and the time of writing, POSIX seconds."""

    name: str
    bytes: int
    modified: float


class Objects(Protocol):
    """A store of named bytes, written whole or not at all: a folder, a bucket or a web server."""

    address: str
    writers: int

    def identity(self) -> str | None:
        """See :meth:`Remote.identity`: a bucket's is its address, a folder has a UUID."""

    def claim(self) -> str:
        """See :meth:`Remote.claim`."""

    def size(self, path: str) -> int | None: ...
    def read(self, path: str, limit: int) -> bytes | None:
        """A small object, None if it is missing; more than ``limit`` bytes are refused."""

    def fetch(self, path: str, size: int, sink: Sink) -> None:
        """Passes an object of that size to ``sink``, block by block, and never more."""

    def create(self, path: str, content: bytes) -> bool:
        """Writes a new object; False, without a change, if it exists."""

    def send(self, path: str, file: File, source: Path, *, replace: bool = False) -> bool:
        """As :meth:`create`, from a local file, which is refused if it does not match ``file``.

        ``replace``: an existing object is replaced, in one step.
        """

    def sound(self, path: str, file: File, source: Path) -> bool:
        """See :meth:`Remote.sound`."""

    def replace(self, path: str, content: bytes) -> None: ...
    def remove(self, path: str) -> None: ...
    def names_in(self, folder: str) -> list[str] | None:
        """The names directly below a folder; None if the store cannot list."""

    def entries(self, folder: str) -> list[Stored]:
        """The objects directly below, for a clean-up."""

    def move(self, path: str, to: str) -> None:
        """Moves an object; one that is gone already is ignored."""


class ObjectRemote:
    """A remote with the layout above in an object store."""

    def __init__(self, objects: Objects, required_identity: str | None = None) -> None:
        self.objects = objects
        self.address = objects.address
        self.writers = objects.writers
        self.required_identity = required_identity

    def identity(self) -> str | None:
        return self.required_identity or self.objects.identity()

    def claim(self) -> str:
        return self.objects.claim()

    def names(self) -> list[str]:
        listed = self.objects.names_in("artifacts")
        names = [*self._index()] if listed is None else listed
        return sorted(name for name in names if _fits(check_name, name))

    def versions(self, name: str) -> list[str]:
        listed = self.objects.names_in(f"artifacts/{name}/versions")
        if listed is None:
            versions = self._index().get(name, {}).get("versions", [])
        else:
            versions = [file.removesuffix(".json") for file in listed if file.endswith(".json")]
        return sorted(version for version in versions if _fits(check_version, version))

    def channels(self, name: str) -> list[str]:
        listed = self.objects.names_in(f"artifacts/{name}/channels")
        channels = self._index().get(name, {}).get("channels", []) if listed is None else listed
        return sorted(
            channel for channel in channels if isinstance(channel, str) and is_channel(channel)
        )

    def header(self, name: str, version: str) -> bytes | None:
        return self.objects.read(f"artifacts/{name}/versions/{version}.json", MAX_HEADER)

    def has(self, name: str, file: File) -> bool:
        return self.objects.size(f"blobs/{file.sha256}") == file.bytes

    def put(self, name: str, file: File, source: Path) -> None:
        path = f"blobs/{file.sha256}"
        if not self.objects.send(path, file, source) and not (
            self.has(name, file) and self.sound(name, file, source)
        ):
            # A blob that does not match its name is damaged.
            self.objects.send(path, file, source, replace=True)

    def sound(self, name: str, file: File, source: Path) -> bool:
        return self.objects.sound(f"blobs/{file.sha256}", file, source)

    def publish(self, name: str, version: str, header: bytes, files: tuple[File, ...]) -> bool:
        return self.objects.create(f"artifacts/{name}/versions/{version}.json", header)

    def fetch(self, name: str, file: File, sink: Sink) -> None:
        self.objects.fetch(f"blobs/{file.sha256}", file.bytes, sink)

    def record(self, name: str, channel: str, counter: int) -> bytes | None:
        return self.objects.read(self._record(name, channel, str(counter)), MAX_RECORD)

    def hint(self, name: str, channel: str) -> int:
        raw = self.objects.read(self._record(name, channel, _CURRENT), MAX_RECORD)
        return read_hint(raw)

    def add_record(self, name: str, channel: str, counter: int, record: bytes) -> bool:
        if not self.objects.create(self._record(name, channel, str(counter)), record):
            return False
        self.objects.replace(self._record(name, channel, _CURRENT), write_hint(counter))
        return True

    def evidence(self, name: str, version: str) -> list[str] | None:
        listed = self.objects.names_in(f"artifacts/{name}/evidence/{version}")
        if listed is None:
            entry = self._index().get(name, {}).get("evidence", {})
            named = entry.get(version, []) if isinstance(entry, dict) else []
            digests = [digest for digest in named if isinstance(digest, str)]
        else:
            digests = [file.removesuffix(".json") for file in listed if file.endswith(".json")]
        return sorted(digest for digest in digests if is_evidence(digest))

    def read_evidence(self, name: str, version: str, digest: str) -> bytes | None:
        return self.objects.read(_evidence(name, version, digest), MAX_EVIDENCE)

    def add_evidence(self, name: str, version: str, digest: str, evidence: bytes) -> bool:
        return self.objects.create(_evidence(name, version, digest), evidence)

    def refresh(self) -> None:
        # Until the index on the remote is the present one: another writer with a newer index may
        # have written it before this one did.
        for _ in range(_MOST_REFRESHES):
            index = self._listed()
            if self.objects.read("index.json", MAX_INDEX) == index:
                return
            self.objects.replace("index.json", index)

    def _listed(self) -> bytes:
        """The present content of ``index.json``."""

        def entry(name: str) -> dict[str, Any]:
            versions = self.versions(name)
            fields: dict[str, Any] = {"versions": versions, "channels": self.channels(name)}
            if self.objects.names_in(f"artifacts/{name}/evidence"):
                held = ((version, self.evidence(name, version)) for version in versions)
                fields["evidence"] = {version: digests for version, digests in held if digests}
            return fields

        names = self.names()
        index = dict(zip(names, run_concurrently(entry, names), strict=True))
        fields: dict[str, Any] = {"format": INDEX_FORMAT, "artifacts": index}
        if identity := self.objects.identity():
            fields["remote"] = identity
        return (json.dumps(fields, indent=1) + "\n").encode()

    def _record(self, name: str, channel: str, which: str) -> str:
        return f"artifacts/{name}/channels/{channel}/{which}.json"

    def _index(self) -> dict[str, Any]:
        raw = self.objects.read("index.json", MAX_INDEX)
        if raw is None:
            raise AsrbuildError(
                "this address has no index.json, so it is not an asrbuild remote, or an empty one",
                file=self.address,
                fix="check the address; ship to its folder or bucket first",
            )
        try:
            index = json.loads(raw)
            artifacts: dict[str, Any] = index["artifacts"]
            whole = index["format"] == INDEX_FORMAT and all(
                isinstance(entry.get(key), list)
                for entry in artifacts.values()
                for key in ("versions", "channels")
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise Refused(Refusal.RECORD_MALFORMED, "index.json is not readable", file=self.address)
        return artifacts


def _evidence(name: str, version: str, digest: str) -> str:
    return f"artifacts/{name}/evidence/{version}/{digest}.json"


def holds(objects: Objects, path: str, file: File) -> bool:
    """Whether an object has the file's bytes; it is read whole."""
    digest = hashlib.sha256()
    try:
        objects.fetch(path, file.bytes, digest.update)
    except Refused:
        return False
    return digest.hexdigest() == file.sha256


def _fits(check: Callable[[object], str], text: object) -> bool:
    try:
        check(text)
    except Refused:
        return False
    return True
