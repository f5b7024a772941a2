"""Names and paths that are portable and stay inside their folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from asrbuild.artifact.names import DEVICES, NAME_RULE, is_name, is_version
from asrbuild.handover.ship.refusal import Refusal, Refused, shown

MAX_PATH = 512
MAX_DEPTH = 16
#: One component of a path: printable ASCII without special meaning on any system, so no separators,
#: drive letters, streams, control characters or Unicode look-alikes.
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_ .+@(),=-]{0,125}[A-Za-z0-9_+@()=-])?")
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,31}")


def check_name(name: object) -> str:
    """Returns an artifact's name, safe as a folder, an object key and a part of an address."""
    return _check(name, is_name, "name", NAME_RULE)


def check_version(version: object) -> str:
    """Returns an artifact's version; ``latest`` is the store's pointer, not a version."""
    return _check(version, is_version, "version", NAME_RULE)


def check_channel(channel: object) -> str:
    """Returns a channel's name: lower-case letters, digits and dashes."""
    rule = "use lower-case letters, digits and dashes, starting with a letter"
    return _check(channel, is_channel, "channel", rule)


def is_channel(text: str) -> bool:
    """Whether the text can be a channel's name."""
    return _CHANNEL.fullmatch(text) is not None and is_name(text)


def _check(text: object, is_valid: Callable[[str], bool], what: str, rule: str) -> str:
    if not isinstance(text, str) or not is_valid(text):
        raise Refused(Refusal.UNSAFE_NAME, f"{shown(text)} cannot be a {what}", fix=rule)
    return text


def check_paths(paths: Sequence[str]) -> None:
    """Refuses a list of files that would not unpack in the same way on every system.

    Raises:
        Refused: UNSAFE_PATH, DUPLICATE_PATH, CASE_CLASH, PATH_CONFLICT or UNSORTED.
    """
    spelled: dict[str, str] = {}
    folders: set[str] = set()
    files: set[str] = set()
    for path in paths:
        parts = _parts(path)
        if path in files:
            raise Refused(Refusal.DUPLICATE_PATH, f"{shown(path)} is listed twice")
        files.add(path)
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            before = spelled.setdefault(prefix.lower(), prefix)
            if before != prefix:
                raise Refused(
                    Refusal.CASE_CLASH,
                    f"{shown(prefix)} and {shown(before)} are one file on some systems",
                )
            if depth < len(parts):
                folders.add(prefix)
    if both := sorted(folders & files):
        raise Refused(Refusal.PATH_CONFLICT, f"{shown(both[0])} is both a file and a folder")
    if list(paths) != sorted(paths):
        raise Refused(Refusal.UNSORTED, "the files are not listed in order")


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    for part in parts:
        if not _PART.fullmatch(part) or part.split(".")[0].rstrip().lower() in DEVICES:
            raise Refused(
                Refusal.UNSAFE_PATH,
                f"the path {shown(path)} is not relative, plain and portable",
                fix="name files with letters, digits, dots, dashes and underscores",
            )
    if len(path) > MAX_PATH or len(parts) > MAX_DEPTH:
        raise Refused(Refusal.UNSAFE_PATH, f"the path {shown(path)} is too long or too deep")
    return parts
