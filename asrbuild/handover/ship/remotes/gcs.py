"""A remote in a bucket of Google Cloud Storage, through gcsfs.

An object appears when its last byte has arrived. Creating requires that none exists
(``ifGenerationMatch=0``). Credentials are Google's own (``GOOGLE_APPLICATION_CREDENTIALS``, ...).
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix
from asrbuild.base.threads import IO_THREADS
from asrbuild.handover.ship.formats.frame import copy_content
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.objects import Stored, holds
from asrbuild.handover.ship.remotes.remote import Sink, missing

_BLOCK = 4 << 20
#: In its errors if an object exists already.
_TAKEN = ("PreconditionFailed", "412", "already exists")


class Bucket:
    """Objects below ``gs://bucket/prefix``."""

    writers = IO_THREADS

    def __init__(self, address: str) -> None:
        self._root = address.partition("://")[2].rstrip("/")
        self.address = f"gs://{self._root}"
        if not self._root.strip("/"):
            raise AsrbuildError("the address names no bucket", file=address)
        # gcsfs asks each bucket for its kind before each call and logs a refusal. Only zonal
        # buckets need that; their users can set the variable.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        # They log the tracebacks of errors that they then raise.
        for library in ("gcsfs", "google.auth"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        try:
            import fsspec

            self._files: Any = fsspec.filesystem("gs", use_listings_cache=False)
        except ImportError:
            raise AsrbuildError(
                "gs:// requires the package gcsfs, which is not installed",
                fix=install_fix("gcs"),
            ) from None

    def identity(self) -> str | None:
        return self.address

    def claim(self) -> str:
        return self.address

    def size(self, path: str) -> int | None:
        with self._errors("reading"):
            try:
                return int(self._files.info(self._at(path), refresh=True)["size"])
            except FileNotFoundError:
                return None

    def read(self, path: str, limit: int) -> bytes | None:
        size = self.size(path)
        if not size:
            return None if size is None else b""  # an empty object has no range
        if size > limit:
            raise Refused(Refusal.TOO_LARGE, f"more than {limit} bytes", file=self._at(path))
        with self._errors("reading"):
            try:
                return bytes(self._files.cat_file(self._at(path), start=0, end=limit + 1))[:limit]
            except FileNotFoundError:
                return None

    def fetch(self, path: str, size: int, sink: Sink) -> None:
        with self._errors("reading"):
            for start in range(0, size, _BLOCK):
                end = min(size, start + _BLOCK)
                try:
                    block = self._files.cat_file(self._at(path), start=start, end=end)
                except FileNotFoundError:
                    raise missing(path, self.address) from None
                except Exception:
                    if (self.size(path) or 0) <= start:
                        return  # the object ends here; the caller reports the missing bytes
                    raise
                sink(block[: end - start])

    def create(self, path: str, content: bytes) -> bool:
        return self._create(
            path, lambda: self._files.pipe_file(self._at(path), content, mode="create")
        )

    def send(self, path: str, file: File, source: Path, *, replace: bool = False) -> bool:
        # The store does not check the bytes, and gcsfs does not tell local errors from remote ones.
        with disk_errors("reading an artifact", source), open(source, "rb") as stream:
            copy_content(stream, file, lambda _: None)
        mode = "overwrite" if replace else "create"

        def write() -> None:
            self._files.put_file(str(source), self._at(path), mode=mode)

        if not replace:
            return self._create(path, write)
        with self._errors("writing"):
            write()
        return True

    def sound(self, path: str, file: File, source: Path) -> bool:
        with self._errors("reading"):
            about = self._files.info(self._at(path), refresh=True)
        md5 = hashlib.md5(usedforsecurity=False)
        with disk_errors("reading an artifact", source), open(source, "rb") as stream:
            copy_content(stream, file, md5.update)
        # An object of several parts has no MD5: it is read.
        return about.get("md5Hash") == base64.b64encode(md5.digest()).decode() or holds(
            self, path, file
        )

    def _create(self, path: str, write: Callable[[], object]) -> bool:
        if self.size(path) is not None:
            return False
        with self._errors("writing"):
            try:
                write()
            except OSError as error:
                taken = isinstance(error, FileExistsError) or any(t in repr(error) for t in _TAKEN)
                # A request id can contain the same digits, so the object is checked.
                if taken and self.size(path) is not None:
                    return False
                raise
        return True

    def replace(self, path: str, content: bytes) -> None:
        with self._errors("writing"):
            self._files.pipe_file(self._at(path), content)

    def remove(self, path: str) -> None:
        with self._errors("removing"):
            self._files.rm_file(self._at(path))

    def names_in(self, folder: str) -> list[str] | None:
        with self._errors("listing"):
            try:
                listed = self._files.ls(self._at(folder), detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return sorted({path.rstrip("/").rpartition("/")[2] for path in listed})

    def entries(self, folder: str) -> list[Stored]:
        with self._errors("listing"):
            try:
                listed = self._files.ls(self._at(folder), detail=True, refresh=True)
            except FileNotFoundError:
                return []
        files = [info for info in listed if info["type"] == "file"]
        return [
            Stored(info["name"].rpartition("/")[2], int(info["size"]), _modified(info))
            for info in files
        ]

    def move(self, path: str, to: str) -> None:
        with self._errors("moving"):
            try:
                self._files.cp_file(self._at(path), self._at(to))
                self._files.rm_file(self._at(path))
            except FileNotFoundError:
                return

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Errors of the several libraries below become one sentence each."""
        try:
            yield
        except AsrbuildError:
            raise
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise AsrbuildError(
                f"the store refused while {doing}: {text}",
                file=self.address,
                fix="check the bucket, its endpoint and your credentials",
            ) from error


def _modified(info: Mapping[str, Any]) -> float:
    """The time at which an object was written; now if the store does not state it."""
    value = info.get("updated") or info.get("mtime")
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return value.timestamp() if isinstance(value, datetime) else time.time()
