"""Reads text files of users, in UTF-8 or in UTF-16."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import TEXT
from asrbuild.base.kinds.recognition import require


def decode_text(data: bytes) -> str:
    """The text of a user's file: UTF-8, or UTF-16 as Windows writes it.

    A byte order mark is not part of the text. UTF-16 without one is recognised by the zero byte of
    each ASCII letter.

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16")
    if len(data) > 1 and (data[0] == 0) != (data[1] == 0):
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le")
    return data.decode("utf-8-sig")


def read_text(path: Path) -> str:
    """The text of a user's file, see :func:`decode_text`; lines end with a line feed.

    Raises:
        AsrbuildError: it is missing, a folder, unreadable or in another encoding.
    """
    require(path, TEXT)
    try:
        return io.StringIO(decode_text(path.read_bytes()), newline=None).read()
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            f"not UTF-8 text (byte {error.start})", file=path, fix="save it as UTF-8"
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}", file=path) from error
