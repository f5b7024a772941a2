"""Every reason for which a bundle, a signature or a channel is refused; one list, one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from asrbuild.base.errors import AsrbuildError


class Refusal(str, Enum):
    """The reasons that docs/bundle-format.md explains; every refusal has one."""

    NOT_A_BUNDLE = "NOT_A_BUNDLE"
    UNKNOWN_FORMAT = "UNKNOWN_FORMAT"
    TRUNCATED = "TRUNCATED"
    TRAILING_BYTES = "TRAILING_BYTES"
    HEADER_TOO_LARGE = "HEADER_TOO_LARGE"
    HEADER_MALFORMED = "HEADER_MALFORMED"
    TOO_MANY_FILES = "TOO_MANY_FILES"
    TOO_LARGE = "TOO_LARGE"
    UNSAFE_NAME = "UNSAFE_NAME"
    UNSAFE_PATH = "UNSAFE_PATH"
    DUPLICATE_PATH = "DUPLICATE_PATH"
    CASE_CLASH = "CASE_CLASH"
    PATH_CONFLICT = "PATH_CONFLICT"
    UNSORTED = "UNSORTED"
    FILE_MISSING = "FILE_MISSING"
    NOT_SIGNED = "NOT_SIGNED"
    UNTRUSTED_SIGNER = "UNTRUSTED_SIGNER"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    STATEMENT_MISMATCH = "STATEMENT_MISMATCH"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    MANIFEST_MISMATCH = "MANIFEST_MISMATCH"
    IDENTITY_MISMATCH = "IDENTITY_MISMATCH"
    RECORD_MALFORMED = "RECORD_MALFORMED"
    REPLAYED = "REPLAYED"
    FORKED = "FORKED"
    EXPIRED = "EXPIRED"
    TOO_SLOW = "TOO_SLOW"


class Refused(AsrbuildError):  # noqa: N818 - a refusal is an outcome, not a fault of the program
    """Content was refused for ``reason``, and none of it was kept."""

    def __init__(
        self,
        reason: Refusal,
        message: str,
        *,
        file: str | Path | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(f"refused ({reason.value}): {message}", file=file, fix=fix)
        self.reason = reason


@contextmanager
def refusing(place: str | Path) -> Iterator[None]:
    """Adds this file or address to a refusal raised within that names none."""
    try:
        yield
    except Refused as refused:
        if refused.file is None:
            refused.file = str(place)
        raise


def shown(value: object) -> str:
    """Foreign text for a message: ASCII, quoted, at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
