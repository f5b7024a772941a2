"""A remote in a bucket of Amazon S3 or a compatible server, through obstore.

An object appears when its last byte has arrived. Creating requires that none exists
(``If-None-Match: *``); a server without that condition takes no channels, because two writers that
move one at the same time would not notice. Server and credentials are those that botocore reads:
from the environment, ``~/.aws/config`` and ``~/.aws/credentials`` with ``AWS_PROFILE``, and a role.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from asrbuild.base import interrupts
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix
from asrbuild.base.threads import IO_THREADS
from asrbuild.handover.ship.formats.frame import BLOCK, copy_content
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.http import LEAST_BYTES_PER_SECOND, LEAST_SECONDS
from asrbuild.handover.ship.remotes.objects import Stored, holds
from asrbuild.handover.ship.remotes.remote import Sink, missing

if TYPE_CHECKING:
    from obstore.store import S3Store

#: Bytes of one request, so that it has a time limit.
_RANGE = 4 << 20
_TIMEOUT = timedelta(seconds=LEAST_SECONDS + _RANGE / LEAST_BYTES_PER_SECOND)
#: A larger file is sent in parts of this size, and its checksum is made of theirs.
_PART = 8 << 20
#: More than any remote has; a server may list without end.
_MOST_LISTED = 200_000
_CREDENTIALS_SECONDS = 600
_MARK = "remote.json"
#: In the errors of servers that do not implement a condition.
_UNKNOWN = ("NotImplemented", "501 Not Implemented", "not supported", "NotSupported")


class S3:
    """Objects below ``s3://bucket/prefix``."""

    writers = IO_THREADS

    def __init__(self, address: str) -> None:
        self.address = f"s3://{address.partition('://')[2].rstrip('/')}"
        bucket = urlsplit(self.address).netloc
        if not bucket:
            raise AsrbuildError("the address names no bucket", file=address)
        self._prefix = self.address.partition("://")[2][len(bucket) :].strip("/")
        with self._errors("looking for credentials"):
            self._store = _store(bucket)

    def identity(self) -> str | None:
        return self.address

    def claim(self) -> str:
        mark = {"format": "asrbuild-remote/1", "id": self.address}
        content = (json.dumps(mark) + "\n").encode()
        with self._errors("writing"):
            # The first may create it; the second must be refused.
            if not all(self._put_new(_MARK, content) for _ in range(2)):
                return self.address
        raise AsrbuildError(
            "the store has no conditional writes, so it takes no channels: two writers that move "
            "one at the same time would not notice",
            file=self.address,
            fix="ship without --channel and pull NAME@VERSION, or use a store that "
            "implements If-None-Match",
        )

    def size(self, path: str) -> int | None:
        import obstore

        with self._errors("reading"):
            try:
                return int(obstore.head(self._store, self._at(path))["size"])
            except FileNotFoundError:
                return None

    def read(self, path: str, limit: int) -> bytes | None:
        size = self.size(path)
        if not size:
            return None if size is None else b""  # an empty object has no range
        if size > limit:
            raise Refused(Refusal.TOO_LARGE, f"more than {limit} bytes", file=self.address)
        content = bytearray()
        try:
            self.fetch(path, size, content.extend)
        except Refused as refused:
            if refused.reason is Refusal.FILE_MISSING:
                return None
            raise
        return bytes(content)

    def fetch(self, path: str, size: int, sink: Sink) -> None:
        for start in range(0, size, _RANGE):
            end = min(size, start + _RANGE)
            for block in self._range(path, start, end):
                sink(block)

    def _range(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, exclusive, or to the end of a shorter object."""
        import obstore

        deadline = time.monotonic() + _TIMEOUT.total_seconds()
        left = end - start
        with self._errors("reading"):
            try:
                options: Any = {"range": (start, end)}
                answer = obstore.get(self._store, self._at(path), options=options)
            except FileNotFoundError:
                raise missing(path, self.address) from None
            except Exception:
                if (self.size(path) or 0) <= start:
                    return  # the object ends here; the caller reports the missing bytes
                raise
            for block in answer.stream(min_chunk_size=BLOCK):
                interrupts.check()
                left -= len(block)
                if left < 0:
                    raise Refused(
                        Refusal.TOO_LARGE,
                        f"the store sends more than the {end - start} bytes that were requested",
                        file=self.address,
                    )
                if time.monotonic() > deadline:
                    raise Refused(Refusal.TOO_SLOW, "the store sends too slowly", file=self.address)
                yield bytes(block)

    def create(self, path: str, content: bytes) -> bool:
        if self.size(path) is not None:
            return False
        with self._errors("writing"):
            return self._put_new(path, content)

    def _put_new(self, path: str, content: bytes) -> bool:
        """Writes a new object; False if the store refused because one exists.

        A store that does not implement the condition overwrites.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            obstore.put(self._store, self._at(path), content, mode="create")
        except (AlreadyExistsError, PreconditionError):
            return False
        except Exception as error:
            if not any(text in str(error) for text in _UNKNOWN):
                raise
            obstore.put(self._store, self._at(path), content)
        return True

    def send(self, path: str, file: File, source: Path, *, replace: bool = False) -> bool:
        import obstore

        if not replace and self.size(path) is not None:
            return False
        with disk_errors("reading an artifact", source), open(source, "rb") as stream:
            if file.bytes <= _PART:
                content = bytearray()
                copy_content(stream, file, content.extend)
                with self._errors("writing"):
                    if not replace:
                        return self._put_new(path, bytes(content))
                    obstore.put(self._store, self._at(path), bytes(content))
                return True
            # In parts; the object appears with the last one. Equal names are equal bytes, so that
            # overwriting another writer's object is harmless.
            failed: list[BaseException] = []
            with self._errors("writing"):
                try:
                    obstore.put(
                        self._store,
                        self._at(path),
                        _proven(stream, file, failed),
                        chunk_size=_PART,
                        max_concurrency=2,
                    )
                except Exception:
                    if failed:  # the error of reading the file, not its consequence
                        raise failed[0] from None
                    raise
        return True

    def sound(self, path: str, file: File, source: Path) -> bool:
        import obstore

        with self._errors("reading"):
            tag = str(obstore.head(self._store, self._at(path))["e_tag"]).strip('"')
        if tag == _tag_of(file, source):
            return True
        # The tag of an encrypted object, or of other parts, does not tell: the object is read.
        return holds(self, path, file)

    def replace(self, path: str, content: bytes) -> None:
        import obstore

        with self._errors("writing"):
            obstore.put(self._store, self._at(path), content)

    def remove(self, path: str) -> None:
        import obstore

        with self._errors("removing"):
            try:
                obstore.delete(self._store, self._at(path))
            except FileNotFoundError:
                return

    def names_in(self, folder: str) -> list[str] | None:
        names: set[str] = set()
        after: str | None = None
        while True:
            last = None
            for name, within in self._listed(folder, after):
                names.add(name)
                last = (name, within)
                if within:
                    break  # the rest of that folder is skipped
            if last is None or not last[1]:
                return sorted(names)
            # 0 is the character after the slash.
            after = f"{folder}/{last[0]}0"

    def entries(self, folder: str) -> list[Stored]:
        return [
            Stored(name, int(about["size"]), about["last_modified"].timestamp())
            for name, within, about in self._walk(folder, None)
            if not within
        ]

    def _listed(self, folder: str, after: str | None) -> Iterator[tuple[str, bool]]:
        return ((name, within) for name, within, _ in self._walk(folder, after))

    def _walk(self, folder: str, after: str | None) -> Iterator[tuple[str, bool, Any]]:
        """Each entry below a folder: its name, whether it is a folder, the object's metadata."""
        import obstore

        top = self._at(folder)
        deadline = time.monotonic() + _TIMEOUT.total_seconds()
        count = 0
        with self._errors("listing"):
            offset = None if after is None else self._at(after)
            for chunk in obstore.list(self._store, top, offset=offset, chunk_size=1000):
                interrupts.check()
                count += len(chunk)
                if count > _MOST_LISTED:
                    raise Refused(
                        Refusal.TOO_LARGE, f"more than {_MOST_LISTED} objects", file=self.address
                    )
                if time.monotonic() > deadline:
                    raise Refused(Refusal.TOO_SLOW, "the store lists too slowly", file=self.address)
                for about in chunk:
                    name, slash, _ = about["path"].removeprefix(f"{top}/").partition("/")
                    yield name, bool(slash), about

    def move(self, path: str, to: str) -> None:
        import obstore

        with self._errors("moving"):
            try:
                obstore.copy(self._store, self._at(path), self._at(to))
                obstore.delete(self._store, self._at(path))
            except FileNotFoundError:
                return

    def _at(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Errors of the store become one sentence each."""
        try:
            yield
        except (AsrbuildError, GeneratorExit):
            raise
        except Exception as error:
            first = str(error).partition("Debug source:")[0]
            # The server's own sentence, without the XML and the request around it.
            stated = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", first, re.DOTALL)
            said = f"{stated[2].rstrip('.')} ({stated[1]})" if stated else first
            text = " ".join(said.split()) or type(error).__name__
            if "timed out" in text or "TimedOut" in text:
                raise Refused(
                    Refusal.TOO_SLOW, f"the store was too slow while {doing}", file=self.address
                ) from error
            raise AsrbuildError(
                f"the store refused while {doing}: {text[:400]}",
                file=self.address,
                fix="check the bucket, its region and endpoint, and your credentials",
            ) from error


def _store(bucket: str) -> S3Store:
    try:
        import botocore.session
        from obstore.store import S3Store
    except ImportError:
        raise AsrbuildError(
            "s3:// requires the packages obstore and botocore, which are not installed",
            fix=install_fix("s3"),
        ) from None
    session = botocore.session.Session()
    profile = session.get_scoped_config()
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
    )
    region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    config: Any = {
        "region": region or "us-east-1",
        # A private server has one host for all buckets; TLS certificates cover no dots in names.
        "virtual_hosted_style_request": endpoint is None and "." not in bucket,
    }
    if endpoint:
        config["endpoint"] = endpoint
    credentials = session.get_credentials()

    def frozen() -> Any:
        known = credentials.get_frozen_credentials()
        return {
            "access_key_id": known.access_key,
            "secret_access_key": known.secret_key,
            "token": known.token,
            "expires_at": datetime.now(timezone.utc) + timedelta(seconds=_CREDENTIALS_SECONDS),
        }

    if credentials is None:
        config["skip_signature"] = True  # public buckets can be read
    return S3Store(
        bucket,
        config=config,
        client_options={
            "allow_http": str(endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=20),
            "timeout": _TIMEOUT,
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=LEAST_SECONDS)},
        credential_provider=None if credentials is None else frozen,
    )


def _proven(stream: BinaryIO, file: File, failed: list[BaseException]) -> Iterator[bytes]:
    """Yields the file's bytes; raises before the last block if they do not match.

    The error is kept in ``failed``, too.
    """
    digest = hashlib.sha256()
    left = file.bytes
    try:
        while left:
            interrupts.check()
            block = stream.read(min(BLOCK, left))
            if not block:
                raise Refused(Refusal.TRUNCATED, f"{file.path} ends {left} bytes early")
            digest.update(block)
            left -= len(block)
            if not left and digest.hexdigest() != file.sha256:
                raise Refused(
                    Refusal.DIGEST_MISMATCH, f"{file.path} was changed while it was shipped"
                )
            yield block
    except BaseException as error:
        failed.append(error)
        raise


def _tag_of(file: File, source: Path) -> str:
    """S3's tag of these bytes: the MD5; of several parts, the MD5 of their MD5s and the count."""
    parts = []
    with disk_errors("reading an artifact", source), open(source, "rb") as stream:
        while block := stream.read(_PART):
            parts.append(hashlib.md5(block, usedforsecurity=False))
    if file.bytes <= _PART:
        return parts[0].hexdigest() if parts else hashlib.md5(usedforsecurity=False).hexdigest()
    whole = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False)
    return f"{whole.hexdigest()}-{len(parts)}"
