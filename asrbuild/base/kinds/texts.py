"""The kind of a text by its beginning: a table, JSON, an alphabet, a pointer, a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from asrbuild.base.kinds.table import KINDS, Kind

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\x0b\f\r\x1b")


def beginning(head: bytes, size: int) -> tuple[str, str] | None:
    """The beginning of a text and its encoding; None where the bytes are not text."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding is None and len(head) >= 4 and b"\x00" in head:
        # UTF-16 without a byte order mark: every other byte of most texts is zero.
        encoding = {(True, False): "utf-16-be", (False, True): "utf-16-le"}.get(
            (not any(head[0:64:2]), not any(head[1:64:2]))
        )
    if encoding is None and _CONTROLS.isdisjoint(head):
        encoding = "utf-8"
    if encoding is None:
        return None
    cut = size > len(head)
    try:
        return _decode(head, encoding, cut), encoding
    except UnicodeDecodeError:
        if encoding != "utf-8":
            return None
        # 64 bytes without a control character are text of an older encoding; fewer may be chance.
        plain = sum(byte < 128 for byte in head)
        text = len(head) >= 64 or 2 * plain > len(head)
        return (head.decode("latin-1"), "latin-1") if text else None


def _decode(head: bytes, encoding: str, cut: bool) -> str:
    import codecs

    return codecs.getincrementaldecoder(encoding)().decode(head, final=not cut)


_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_COLUMNS = frozenset(
    {
        "wav_filename",
        "wav_filesize",
        "transcript",
        "path",
        "sentence",
        "audio",
        "text",
        "client_id",
        "filename",
        "file",
        "duration",
    }
)
_ENCODINGS = {"utf-8": "", "utf-8-sig": "", "latin-1": ", not in UTF-8"}


def text_kind(text: str, encoding: str, whole: bool) -> Kind:
    """The kind of a text by its beginning; ``whole``: the beginning is the whole text."""
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith(("version https://git-lfs.github.com/", "version https://hawser.github.")):
        found = re.search(r"^size (\d+)$", start, re.MULTILINE)
        what = KINDS["lfs-pointer"].what
        held = f" to a file of {int(found[1]):,} bytes" if found else ""
        return replace(KINDS["lfs-pointer"], what=what + held)
    if re.match(r"\S{0,400}/annex/objects/", start):
        return KINDS["annex-pointer"]
    if re.match(r"(<!--.*?-->\s*)?<(!doctype html|html|head|body|title)\b", start, re.I | re.S):
        return KINDS["html"]
    if start.startswith("<?xml") or re.match(r"<(Error|xml|plist)\b", start):
        return KINDS["html" if re.search(r"<!doctype html|<html\b", start, re.I) else "xml"]
    if marked := re.search(r"^-----BEGIN .*?(PUBLIC|PRIVATE) KEY-----", start[:400], re.MULTILINE):
        return KINDS[f"{marked[1].lower()}-key"]
    if start[:1] in ("{", "[") and (kind := _json_kind(start, whole)) is not None:
        return kind
    if re.match(r"\\data\\\s", start):
        return KINDS["arpa"]
    if re.match(r'(all_)?model_checkpoint_paths?\s*:\s*"', start):
        return KINDS["checkpoint-state"]
    if re.match(r"(node|graph_def|meta_info_def|library|versions|meta_graphs)\s*:?\s*\{", start):
        return KINDS["graph-text"]
    if re.match(r"saved_model_schema_version\s*:", start):
        return KINDS["graph-text"]
    if len(text) < 200 and re.match(
        r"(entry|repository|page|file|404:?)? ?(not found|access denied|forbidden|unauthorized)"
        r"|invalid (username|credentials)|access to model",
        start,
        re.I,
    ):
        return KINDS["answer"]
    if (delimiter := _delimiter(start)) is not None:
        how = f" with {_DELIMITERS[delimiter]}{_ENCODINGS.get(encoding, f' in {encoding.upper()}')}"
        return replace(KINDS["csv"], what=f"a table{how}")
    return replace(
        KINDS["text"], what=f"a text{_ENCODINGS.get(encoding, f' in {encoding.upper()}')}"
    )


def _json_kind(start: str, whole: bool) -> Kind | None:
    """The kind of a JSON text by its keys; None if the text only begins like JSON."""
    if '"schema_version"' in start and '"artifact_id"' in start:
        return KINDS["manifest"]
    if not whole:
        return KINDS["json"] if re.match(r'[{\[]\s*["{\[\d]', start) else None
    try:
        value = json.loads(start)
    except ValueError:
        return KINDS["json"] if re.match(r'\{\s*"', start) else None
    if isinstance(value, dict) and {"error", "message", "errors"} & set(value):
        return KINDS["answer"]
    return KINDS["json"]


def _delimiter(text: str) -> str | None:
    """The delimiter of a table's cells; None where the text is not a table.

    A text is a table if its first line names a known column, or its lines have equally many tabs or
    semicolons.
    """
    lines = [line for line in text.splitlines()[:8] if line.strip()]
    if not lines:
        return None
    for delimiter in _DELIMITERS:
        header = [cell.strip().strip('"').lower() for cell in lines[0].split(delimiter)]
        if len(header) > 1 and _COLUMNS & set(header):
            return delimiter
    for delimiter in ("\t", ";"):
        cells = {line.count(delimiter) for line in lines[:-1] or lines}
        if len(lines) > 2 and len(cells) == 1 and cells.pop() > 0:
            return delimiter
    return None
