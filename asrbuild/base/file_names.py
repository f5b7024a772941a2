"""Safe file names for foreign names (of tensors, labels), and paths that stay inside a folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def stays_inside(path: str) -> bool:
    """Whether a relative path is plain: forward slashes, no ``.`` or ``..``, no empty part.

    It is valid on every system: a part has at most 255 bytes, the whole at most 1,024.
    """
    parts = path.split("/")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    return (
        not {"", ".", ".."} & set(parts)
        and not any(c in path for c in "\\\0\n\r")
        and max(sizes) <= 255
        and sum(sizes) + len(sizes) <= 1025
    )


#: Bytes of a name that stand for themselves in a file's name.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")


#: Names that Windows keeps for devices, whatever follows a dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)


_LONGEST_NAME = 180


def file_names(names: Iterable[str]) -> dict[str, str]:
    """File names, without a suffix, for foreign names: of an output, a tensor, a label.

    Every file name is one component of a path on any system, so no name chooses where a file goes;
    and different names never share a file. ASCII letters, digits, ``_``, ``-`` and ``.`` stand for
    themselves, every other byte of the name's UTF-8 is ``%`` and two hexadecimal digits, as in a
    URL; so are a dot at either end and the first letter of a device of Windows. A long name, and
    names that differ only in upper and lower case, which are equal on many file systems, end
    with ``%-`` and a digest of the name::

        logits       logits          ../x      %2E.%2Fx
        net/in:0     net%2Fin%3A0    nul       %6Eul
        x and X      x%-1f0a2b…      (empty)   %
    """
    plain = {name: _file_name(name) for name in names}
    alike = Counter(short.casefold() for short in plain.values())
    return {
        name: _with_digest(short, name) if alike[short.casefold()] > 1 else short
        for name, short in plain.items()
    }


def _file_name(name: str) -> str:
    data = name.encode("utf-8", "surrogatepass")
    quoted = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)
    if _DEVICES.match(quoted) or quoted.startswith("."):
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if quoted.endswith("."):
        quoted = f"{quoted[:-1]}%2E"
    if len(quoted) > _LONGEST_NAME:
        return _with_digest(quoted, name)
    return quoted or "%"


def _with_digest(short: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{short[: _LONGEST_NAME - 20]}%-{digest}"


#: Suffixes of files that a person may name where a folder is expected.
_SUFFIXES = tuple(".asrb .zip .tar .gz .tgz .json .html .md .csv .wav .npy .pb .scorer".split())


def names_file(path: Path) -> bool:
    """Whether a path that does not exist means a file, by its suffix or a misspelt suffix."""
    suffix = path.suffix.lower()
    if path.exists() or len(suffix) < 3:
        return False
    return suffix in _SUFFIXES or sorted(suffix) == sorted(".asrb") or suffix in (".asb", ".arsb")
