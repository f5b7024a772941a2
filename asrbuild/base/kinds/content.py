"""The kind of a file by its first and last bytes."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

from asrbuild.base.kinds.messages import MEMORY_MAPPED, message_kind
from asrbuild.base.kinds.table import KINDS, Kind
from asrbuild.base.kinds.texts import beginning, text_kind

_HEAD = 4096
_TABLE_MAGIC = 0xDB4775248B80FB57
_TRIE = re.compile(rb"EIRT.{4}[\x00\x01].{16}\xd6\xfd\xb2\x7e", re.DOTALL)
_TRIE_WITHIN = 1 << 29


#: Offset, bytes, key of the kind; the first match decides.
_SIGNATURES = (
    (0, b"\x89ASR\r\n\x1a\n", "asrb"),
    (0, b"\x89ASR", "asrb-as-text"),
    (4, b"TFL3", "tflite"),
    (4, b"ORTM", "ort"),
    (0, b"\x89HDF\r\n\x1a\n", "keras-h5"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "pytorch-legacy"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (4, b"ftyp", "mp4"),
    (0, b".snd", "audio"),
    (0, b"caff\x00", "audio"),
    (0, b"NIST_1A", "audio"),
    (0, b"riff\x2e\x91\xcf\x11", "audio"),
    (0, b"Creative Voice File", "audio"),
    (0, b"\x1a\x45\xdf\xa3", "film"),
    (0, b"#!AMR", "film"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "film"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "archive"),
    (0, b"\xfd7zXZ\x00", "archive"),
    (0, b"\x28\xb5\x2f\xfd", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"Rar!\x1a\x07", "archive"),
    (257, b"ustar", "tar"),
    (0, b"\x89PNG\r\n\x1a\n", "picture"),
    (0, b"\xff\xd8\xff", "picture"),
    (0, b"GIF8", "picture"),
    (0, b"%PDF-", "picture"),
    (0, b"\x7fELF", "program"),
    (0, b"MZ\x90\x00", "program"),
    (0, b"\xcf\xfa\xed\xfe", "program"),
)


def kind_of_content(path: Path) -> Kind:
    """The kind of a plain file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        if not head:
            return KINDS["empty"]
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _kind(path, head, data)


def _kind(path: Path, head: bytes, data: mmap.mmap) -> Kind:
    size = len(data)
    for offset, signature, key in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return KINDS[key]
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"FORM") and head[8:11] in (b"WAV", b"AIF"):
        return KINDS["wav" if head[8:11] == b"WAV" else "audio"]
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return KINDS[_zip_kind(path)]
    if head.startswith(b"mmap lm http://kheafield.com/code"):
        at = data.rfind(b"EIRT", max(0, size - _TRIE_WITHIN))
        return KINDS["scorer" if at >= 0 and _TRIE.match(data, at) else "kenlm"]
    if size >= 48 and data[-8:] == struct.pack("<Q", _TABLE_MAGIC):
        return KINDS["checkpoint-index"]
    if _is_memory_mapped(data):
        return KINDS["pbmm"]
    if (message := message_kind(data)) is not None:
        return KINDS[message]
    if (text := beginning(head, size)) is not None:
        return text_kind(*text, size <= len(head))
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and data[size - 1] == 0x2E:
        return KINDS["pickle"]
    if size > 10 and head[8:10] == b'{"' and struct.unpack("<Q", head[:8])[0] < size:
        return KINDS["safetensors"]
    if _mp3_frame(head):
        return KINDS["mp3"]
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        # Raw numbers have no signature, so the name decides.
        return KINDS["checkpoint-data"]
    if not any(head) and not any(data[-_HEAD:]):
        return KINDS["zeros"]
    return KINDS["binary"]


def _mp3_frame(head: bytes) -> bool:
    """MPEG audio: eleven set bits, then no reserved version, layer, bit rate or sample rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    return bool(
        head[1] >> 3 & 3 != 1
        and head[1] >> 1 & 3
        and head[2] >> 4 not in (0, 15)
        and head[2] >> 2 & 3 != 3
    )


def _zip_kind(path: Path) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip"
    ends = {name.partition("/")[2] for name in names}
    if any(re.search(r"(^|/)Data/com\.apple\.CoreML/", name) for name in names):
        return "mlpackage-zip"
    if "archive_format" in ends or {"serialized_exported_program.json", "models/model.json"} & (
        ends | set(names)
    ):
        return "pytorch-exported"
    if "data.pkl" in ends or "constants.pkl" in ends:
        return "pytorch"
    if {"config.json", "model.weights.h5"} <= set(names):
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "zip"


def _is_memory_mapped(data: mmap.mmap) -> bool:
    """Whether it ends with a directory of regions and the directory's offset, as a ``.pbmm``
    does."""
    size = len(data)
    if size < 9:
        return False
    (at,) = struct.unpack("<Q", data[-8:])
    return at < size - 8 and MEMORY_MAPPED in data[at : at + 64]
