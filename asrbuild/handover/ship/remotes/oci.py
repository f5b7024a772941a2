"""A remote in an OCI registry, over the distribution API alone.

An artifact is a repository ``<prefix>/<name>``; a version is a tag whose image manifest has the
bundle's header as its config and the artifact's files as its layers. ``+`` cannot stand in a tag
and becomes ``_``. A channel's n-th record is the tag ``_channel.<channel>.<n>``, an evidence file
the tag ``_evidence.<start of the version's SHA-256>.<SHA-256 of the file>``.

Registries cannot refuse to move an existing tag: of two writers that find none and write, the
second overwrites the first, and both may read back their own. A version has the same bytes from
every writer. A channel's record has not, so its writers take turns by Fischer's timed mutual
exclusion: write a mark into ``_claim.<channel>``, wait, and write the record only if the mark is
unchanged and the record is still absent. This holds as long as writing a tag takes less than
``SETTLE_SECONDS``; a slower write is noticed and reported as lost.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from asrbuild.base import interrupts
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import IO_THREADS
from asrbuild.handover.ship.formats.header import MAX_HEADER, File
from asrbuild.handover.ship.names import check_version, is_channel
from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.remotes.http import PAUSES, blocks, read_all, unexpected
from asrbuild.handover.ship.remotes.registry import Registry
from asrbuild.handover.ship.remotes.remote import (
    MAX_EVIDENCE,
    MAX_INDEX,
    MAX_RECORD,
    Sink,
    is_evidence,
    missing,
    read_hint,
    write_hint,
)

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
HEADER_TYPE = "application/vnd.asrbuild.header.v1+json"
RECORD_TYPE = "application/vnd.asrbuild.channel.v1+json"
HINT_TYPE = "application/vnd.asrbuild.hint.v1+json"
EVIDENCE_TYPE = "application/vnd.asrbuild.evidence.v1+json"
CLAIM_TYPE = "application/vnd.asrbuild.claim.v1+json"
FILE_TYPE = "application/octet-stream"
#: Longer than a registry takes to write a tag; each move of a channel waits this long.
SETTLE_SECONDS = 2.0
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_MAX_PAGES = 100


class _CancellableFile(FileIO):
    """A file to send, whose reading stops when the caller is cancelled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors("reading an artifact", path):
            super().__init__(path)

    def read(self, size: int | None = -1, /) -> bytes:
        interrupts.check()
        with disk_errors("reading an artifact", self.path):
            return super().read(-1 if size is None else size)


class OciRemote:
    """Artifacts in the repositories below ``oci://host[:port]/prefix``."""

    writers = IO_THREADS

    def __init__(self, address: str, required_identity: str | None = None) -> None:
        parts = urlsplit(address)
        self.address = parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")
        self.required_identity = required_identity
        self._prefix = parts.path.strip("/")
        if not parts.hostname or (self._prefix and not _REPOSITORY.fullmatch(self._prefix)):
            raise AsrbuildError(
                "this is not the address of a registry",
                file=address,
                fix="write oci://host[:port]/prefix in lower-case letters and digits",
            )
        self._registry = Registry(self.address)

    def identity(self) -> str | None:
        return self.required_identity or self.address

    def claim(self) -> str:
        return self.address

    # Listing and reading ---------------------------------------------------------------------

    def names(self) -> list[str]:
        prefix = f"{self._prefix}/" if self._prefix else ""
        repositories = self._pages("_catalog", "repositories")
        below = (
            name.removeprefix(prefix) for name in repositories or [] if name.startswith(prefix)
        )
        # A repository whose last tag was removed stays in the catalogue.
        return sorted(name for name in below if "/" not in name and self.versions(name))

    def versions(self, name: str) -> list[str]:
        tags = self._pages(f"{self._repository(name)}/tags/list", "tags") or []
        versions = []
        for tag in tags:
            if not tag.startswith("_"):
                try:
                    versions.append(check_version(tag.replace("_", "+")))
                except Refused:
                    continue  # a tag that asrbuild has not made
        return sorted(versions)

    def channels(self, name: str) -> list[str]:
        tags = self._pages(f"{self._repository(name)}/tags/list", "tags") or []
        parts = [tag.split(".") for tag in tags if tag.startswith("_channel.")]
        return sorted({part[1] for part in parts if len(part) == 3 and is_channel(part[1])})

    def header(self, name: str, version: str) -> bytes | None:
        return self._config(name, _tag(version), HEADER_TYPE, MAX_HEADER)

    def has(self, name: str, file: File) -> bool:
        with self._registry.ask(
            "HEAD", f"{self._repository(name)}/blobs/sha256:{file.sha256}"
        ) as answer:
            if answer.status not in (200, 404):
                raise unexpected(answer, "looking for a file")
            return answer.status == 200

    def record(self, name: str, channel: str, counter: int) -> bytes | None:
        return self._config(name, f"_channel.{channel}.{counter}", RECORD_TYPE, MAX_RECORD)

    def evidence(self, name: str, version: str) -> list[str] | None:
        tags = self._pages(f"{self._repository(name)}/tags/list", "tags") or []
        start = _evidence_tag(version, "")
        digests = (tag.removeprefix(start) for tag in tags if tag.startswith(start))
        return sorted(digest for digest in digests if is_evidence(digest))

    def read_evidence(self, name: str, version: str, digest: str) -> bytes | None:
        return self._config(name, _evidence_tag(version, digest), EVIDENCE_TYPE, MAX_EVIDENCE)

    def hint(self, name: str, channel: str) -> int:
        return read_hint(self._config(name, f"_channel.{channel}", HINT_TYPE, MAX_RECORD))

    def fetch(self, name: str, file: File, sink: Sink) -> None:
        self._fetch(name, file.sha256, file.bytes, sink)

    # Adding ----------------------------------------------------------------------------------

    def sound(self, name: str, file: File, source: Path) -> bool:
        # A registry checks the digest of every upload, and offers no other checksum.
        return True

    def put(self, name: str, file: File, source: Path) -> None:
        with _CancellableFile(source) as stream:
            self._upload(name, file.sha256, file.bytes, stream)

    def publish(self, name: str, version: str, header: bytes, files: tuple[File, ...]) -> bool:
        layers = [
            {
                "mediaType": FILE_TYPE,
                "digest": f"sha256:{file.sha256}",
                "size": file.bytes,
                "annotations": {"org.opencontainers.image.title": file.path},
            }
            for file in files
        ]
        notes = {
            "org.opencontainers.image.title": name,
            "org.opencontainers.image.version": version,
        }
        return self._create(name, _tag(version), header, HEADER_TYPE, layers, notes)

    def add_record(self, name: str, channel: str, counter: int, record: bytes) -> bool:
        tag = f"_channel.{channel}.{counter}"
        if not self._claimed(name, channel, tag):
            return False
        start = time.monotonic()
        if not self._create(name, tag, record, RECORD_TYPE, [], {}):
            return False
        if time.monotonic() - start > SETTLE_SECONDS:
            # Too slow for the claim to have held; the next writer has written by now.
            time.sleep(SETTLE_SECONDS)
            if self.record(name, channel, counter) != record:
                return False
        self._tag_config(name, f"_channel.{channel}", write_hint(counter), HINT_TYPE, [], {})
        return True

    def add_evidence(self, name: str, version: str, digest: str, evidence: bytes) -> bool:
        tag = _evidence_tag(version, digest)
        return self._create(name, tag, evidence, EVIDENCE_TYPE, [], {}, MAX_EVIDENCE)

    def _claimed(self, name: str, channel: str, tag: str) -> bool:
        """Whether this writer, and no other, may create the record ``tag`` now.

        If two writers both saw their own mark, the later one wrote its mark after the earlier had
        checked, and checks for the record ``SETTLE_SECONDS`` later: the earlier has written it.
        """
        if self._config(name, tag, RECORD_TYPE, MAX_RECORD) is not None:
            return False
        claim = f"_claim.{channel}"
        mark = json.dumps({"mark": secrets.token_hex(16)}).encode()
        self._tag_config(name, claim, mark, CLAIM_TYPE, [], {})
        time.sleep(SETTLE_SECONDS)
        return self._config(name, claim, CLAIM_TYPE, MAX_RECORD) == mark

    def refresh(self) -> None:
        """Does nothing: a registry lists its own content."""

    def _create(
        self,
        name: str,
        tag: str,
        config: bytes,
        kind: str,
        layers: list[Any],
        notes: dict[str, str],
        limit: int = max(MAX_HEADER, MAX_RECORD),
    ) -> bool:
        if self._config(name, tag, kind, limit) is not None:
            return False
        self._tag_config(name, tag, config, kind, layers, notes)
        return self._config(name, tag, kind, limit) == config

    def _tag_config(
        self,
        name: str,
        tag: str,
        config: bytes,
        kind: str,
        layers: list[Any],
        notes: dict[str, str],
    ) -> None:
        digest = hashlib.sha256(config).hexdigest()
        self._upload(name, digest, len(config), config)
        about = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(config)}
        # A manifest must have a layer; a record's layer is its own config.
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": about,
            "layers": layers or [about],
            "annotations": notes,
        }
        body = json.dumps(manifest, sort_keys=True).encode()
        where = f"{self._repository(name)}/manifests/{tag}"
        for pause in (*PAUSES, None):
            with self._registry.ask("PUT", where, body, {"Content-Type": MANIFEST_TYPE}) as answer:
                if answer.status in (200, 201, 202):
                    return
                # A registry on plain files answers 400 or 500 while another writer writes the tag;
                # the same bytes can be sent again safely.
                if pause is None or answer.status not in (400, 500, 502, 503):
                    raise unexpected(answer, "publishing")
            time.sleep(pause)

    def _upload(self, name: str, digest: str, size: int, body: bytes | BinaryIO) -> None:
        repository = self._repository(name)
        with self._registry.ask("POST", f"{repository}/blobs/uploads/", b"") as answer:
            if answer.status != 202 or "location" not in answer.headers:
                raise unexpected(answer, "beginning an upload")
            place = urljoin(answer.url, answer.headers["location"])
        parts = urlsplit(place)
        query = urlencode([*parse_qsl(parts.query), ("digest", f"sha256:{digest}")])
        headers = {"Content-Type": FILE_TYPE, "Content-Length": str(size)}
        with self._registry.ask(
            "PUT", urlunsplit(parts._replace(query=query)), body, headers
        ) as answer:
            if answer.status not in (201, 202, 204):
                raise unexpected(answer, "uploading a file")

    # Reading ---------------------------------------------------------------------------------

    def _config(self, name: str, tag: str, kind: str, limit: int) -> bytes | None:
        where = f"{self._repository(name)}/manifests/{tag}"
        with self._registry.ask("GET", where, headers={"Accept": MANIFEST_TYPE}) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise unexpected(answer, "reading a tag")
            raw = read_all(answer, MAX_INDEX)
        try:
            about = json.loads(raw)["config"]
            digest, size = str(about["digest"]), about["size"]
            fits = about["mediaType"] == kind and re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
        except (ValueError, KeyError, TypeError, RecursionError):
            fits = None
        if not fits or type(size) is not int:
            raise Refused(
                Refusal.RECORD_MALFORMED,
                f"the tag {shown(tag)} is not one of asrbuild's",
                file=self.address,
            )
        if size > limit:
            raise Refused(Refusal.TOO_LARGE, f"more than {limit} bytes", file=self.address)
        content = bytearray()
        self._fetch(name, digest.removeprefix("sha256:"), size, content.extend)
        return bytes(content)

    def _fetch(self, name: str, digest: str, size: int, sink: Sink) -> None:
        with self._registry.ask("GET", f"{self._repository(name)}/blobs/sha256:{digest}") as answer:
            if answer.status == 404:
                raise missing(f"blob {digest}", self.address)
            if answer.status != 200:
                raise unexpected(answer, "reading a file")
            for block in blocks(answer, size):
                sink(block)

    def _pages(self, path: str, key: str) -> list[str] | None:
        """A list that may come in pages; None if it does not exist."""
        items: list[str] = []
        left = MAX_INDEX
        where = urljoin(self._registry.base, f"{path}?n=1000")
        for _ in range(_MAX_PAGES):
            with self._registry.ask("GET", where) as answer:
                if answer.status == 404:
                    return items or None
                if answer.status != 200:
                    raise unexpected(answer, "listing")
                raw = read_all(answer, left)
                left -= len(raw)
                try:
                    listed = json.loads(raw)[key]
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise unexpected(answer, "listing") from None
                items += [text for text in listed or [] if isinstance(text, str)]
                more = re.match(r'<([^>]+)>;\s*rel="?next"?', answer.headers.get("link", ""))
                if more is None:
                    return items
                where = urljoin(answer.url, more[1])
        return items

    def _repository(self, name: str) -> str:
        repository = f"{self._prefix}/{name}" if self._prefix else name
        if not _REPOSITORY.fullmatch(repository):
            raise AsrbuildError(
                f"{name} cannot be a repository: its name requires lower-case letters and digits, "
                "with single dots, dashes and underscores between them",
                file=self.address,
                fix="build it with a lower-case name",
            )
        return repository


def _evidence_tag(version: str, digest: str) -> str:
    # A tag has at most 128 characters, a version may have 100.
    return f"_evidence.{hashlib.sha256(version.encode()).hexdigest()[:16]}.{digest}"


def _tag(version: str) -> str:
    if "_" in version:
        raise AsrbuildError(
            f"the version {version} cannot be a tag of a registry: it has an underscore",
            fix="build it with another version",
        )
    return version.replace("+", "_")
