"""What a file or folder is, by its content; the name of a file decides nothing.

Every command that reads a file asks here first, so that a file of another kind is one error that
names the kind, says why it cannot be used at this place, and what to do instead. At most a few kB
are read, or the outline of a protobuf message; a pipe or a device is never opened. TensorFlow,
coremltools and numpy are not needed.

Sources of the signatures: TensorFlow's ``graph.proto``, ``meta_graph.proto``,
``saved_model.proto``, ``memmapped_file_system.proto`` and LevelDB's ``table_format.md``; Core ML's
``Model.proto``; ``onnx.proto``; TensorFlow Lite's ``schema.fbs``; PyTorch's ``serialization.py``;
Git LFS's ``docs/spec.md``; the container formats' own specifications.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import shlex
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import resolve_file
from asrbuild.base.protobuf import BYTES, FIXED32, FIXED64, VARINT, WireError, read_varint

_HEAD = 4096
#: Top-level fields of a message that are looked at; a graph has one for each node.
_MOST_FIELDS = 20_000
_TABLE_MAGIC = 0xDB4775248B80FB57
MEMORY_MAPPED = b"memmapped_package://"
_VARIABLES = frozenset({b"Variable", b"VariableV2", b"VarHandleOp", b"AutoReloadVariable"})
_OP_NAME = re.compile(rb"[A-Za-z_][\w>.]{0,200}\Z")
_TRIE = re.compile(rb"EIRT.{4}[\x00\x01].{16}\xd6\xfd\xb2\x7e", re.DOTALL)
_TRIE_WITHIN = 1 << 29


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Args:
        key: its short name.
        what: what it is, with an article.
        why: what that means for a reader who wanted something else; may be empty.
        instead: what to do with such a file; ``{file}`` and ``{folder}`` are its place.
        suffixes: how its name usually ends; none where any name is usual.
    """

    key: str
    what: str
    why: str = ""
    instead: str = ""
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A place that takes files: an argument or a key.

    Args:
        wants: what it takes, with an article.
        takes: keys of the kinds that it takes.
        fix: what to give.
        instead: kind -> what to do, where this place knows better than the kind.
    """

    wants: str
    takes: frozenset[str]
    fix: str
    instead: Mapping[str, str] = field(default_factory=dict)


_SOURCE_PATH = "build it with `asrbuild source=frozen_graph source.path={file}`"
_CHECKPOINT = (
    "build from its folder with `asrbuild source=checkpoint source.checkpoint_dir={folder}`"
)
_INSPECT_MODEL = "look at it with `asrbuild inspect model {file}`"
_NOT_CONVERTED = "asrbuild builds DeepSpeech checkpoints and frozen graphs; export the model as one"
_DOWNLOAD = "open the file to see what the server says, then download the file again"

KINDS = {
    kind.key: kind
    for kind in (
        Kind("graph", "a frozen TensorFlow graph (GraphDef)",
             instead="look at it with `asrbuild inspect graph {file}`", suffixes=(".pb",)),
        Kind("graph-unfrozen", "a TensorFlow graph that is not frozen",
             "its weights are variables, which are not in the file",
             "freeze it, or build from the checkpoint that has its weights", (".pb",)),
        Kind("pbmm", "a memory-mapped TensorFlow graph (.pbmm)", instead=_SOURCE_PATH,
             suffixes=(".pbmm",)),
        Kind("tflite", "a TensorFlow Lite model", instead=_SOURCE_PATH, suffixes=(".tflite",)),
        Kind("meta-graph", "a TensorFlow MetaGraphDef (.meta)",
             "it holds the graph of a training, without weights", _CHECKPOINT, (".meta",)),
        Kind("graph-text", "a TensorFlow graph as text (.pbtxt)",
             "asrbuild reads graphs in the binary form",
             "parse it with google.protobuf.text_format, and write SerializeToString()",
             (".pbtxt", ".prototxt")),
        Kind("saved-model-file", "the saved_model.pb of a TensorFlow SavedModel",
             "its weights are in the folder beside it",
             "freeze it with TensorFlow's convert_variables_to_constants_v2", (".pb",)),
        Kind("saved-model", "a folder with a TensorFlow SavedModel",
             instead="freeze it with TensorFlow's convert_variables_to_constants_v2"),
        Kind("checkpoint-index", "the index of a TensorFlow checkpoint",
             "it is one of the files of a checkpoint", _CHECKPOINT, (".index",)),
        Kind("checkpoint-data", "the data file of a TensorFlow checkpoint",
             "it is one of the files of a checkpoint", _CHECKPOINT),
        Kind("checkpoint-state", "the state file of a TensorFlow checkpoint folder",
             "it names a checkpoint", _CHECKPOINT),
        Kind("checkpoint", "a folder with a TensorFlow checkpoint",
             instead="build it with `asrbuild source=checkpoint source.checkpoint_dir={file}`"),
        Kind("mlmodel", "a Core ML model (.mlmodel)", instead=_INSPECT_MODEL,
             suffixes=(".mlmodel",)),
        Kind("mlpackage", "a Core ML package (.mlpackage)", instead=_INSPECT_MODEL,
             suffixes=(".mlpackage",)),
        Kind("mlpackage-zip", "a zipped Core ML package", "a package is read as a folder",
             "unpack it with `unzip {file}`", (".zip",)),
        Kind("mlmodelc", "a compiled Core ML model (.mlmodelc)",
             "compiled models cannot be read back",
             "use the .mlpackage or .mlmodel that it was compiled from", (".mlmodelc",)),
        Kind("aimodel", "a Core AI model (.aimodel)",
             instead="use the .mlpackage of the same model", suffixes=(".aimodel",)),
        Kind("onnx", "an ONNX model", instead=_NOT_CONVERTED, suffixes=(".onnx",)),
        Kind("ort", "an ONNX Runtime model (.ort)", instead=_NOT_CONVERTED, suffixes=(".ort",)),
        Kind("keras-h5", "an HDF5 file (a Keras model or its weights)", instead=_NOT_CONVERTED,
             suffixes=(".h5", ".hdf5", ".keras", ".he5")),
        Kind("keras", "a Keras model (.keras)", instead=_NOT_CONVERTED, suffixes=(".keras",)),
        Kind("pytorch", "a PyTorch file (zip form)", instead=_NOT_CONVERTED,
             suffixes=(".pt", ".pth", ".bin", ".ckpt", ".ptl", ".pkl")),
        Kind("pytorch-exported", "a PyTorch exported program (.pt2)", instead=_NOT_CONVERTED,
             suffixes=(".pt2",)),
        Kind("pytorch-legacy", "a PyTorch file (the form before 1.6)",
             "it is a pickle, which asrbuild never opens", _NOT_CONVERTED,
             (".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl")),
        Kind("pickle", "a Python pickle", "a pickle can run any code and is never opened",
             "save the data in another form"),
        Kind("safetensors", "a safetensors file", instead=_NOT_CONVERTED,
             suffixes=(".safetensors",)),
        Kind("scorer", "a DeepSpeech or Coqui scorer package",
             instead="look at it with `asrbuild inspect scorer {file}`", suffixes=(".scorer",)),
        Kind("kenlm", "a bare KenLM binary model",
             "it ends without the word trie of a scorer package, as one that is cut off does",
             "make a scorer of its ARPA file or text with `asrbuild scorer build`",
             (".binary", ".klm", ".bin", ".mmap", ".kenlm")),
        Kind("arpa", "an ARPA language model",
             instead="make a scorer of it with `asrbuild scorer build --arpa`",
             suffixes=(".arpa",)),
        Kind("wav", "a WAV recording", suffixes=(".wav", ".wave")),
        Kind("flac", "a FLAC recording", suffixes=(".flac", ".oga")),
        Kind("ogg", "an Ogg recording", suffixes=(".ogg", ".oga", ".opus")),
        Kind("mp3", "an MP3 recording", suffixes=(".mp3",)),
        Kind("audio", "a recording", suffixes=()),
        Kind("mp4", "an MP4 file (AAC or ALAC audio, or a film)",
             "the library that decodes recordings does not read MP4",
             "convert it with `ffmpeg -i {file} recording.wav`",
             (".mp4", ".m4a", ".mov", ".m4b", ".3gp", ".aac")),
        Kind("film", "a Matroska, WebM, AMR or WMA file",
             "the library that decodes recordings does not read it",
             "convert it with `ffmpeg -i {file} recording.wav`",
             (".mkv", ".webm", ".amr", ".wma", ".asf")),
        Kind("csv", "a table (CSV)", suffixes=(".csv", ".tsv", ".txt", ".tab")),
        Kind("npy", "a numpy array (.npy)", suffixes=(".npy",)),
        Kind("npz", "an archive of numpy arrays (.npz)", instead="save one array with numpy.save",
             suffixes=(".npz",)),
        Kind("manifest", "the manifest of an asrbuild artifact",
             instead="look at the artifact with `asrbuild show {folder}`", suffixes=(".json",)),
        Kind("artifact", "the folder of an asrbuild artifact",
             instead="look at it with `asrbuild show {file}`"),
        Kind("json", "a JSON document", suffixes=(".json", ".jsonl", ".txt", ".ipynb")),
        Kind("asrb", "an asrbuild bundle (.asrb)",
             instead="unpack it with `asrbuild pull {file}`", suffixes=(".asrb",)),
        Kind("asrb-as-text", "an asrbuild bundle whose line ends a transfer as text has changed",
             instead="transfer it again, as binary"),
        Kind("public-key", "a public key of `asrbuild key new`",
             instead="trust it with `asrbuild key trust {file}`", suffixes=(".pub",)),
        Kind("private-key", "a private key", "it must stay with its owner",
             "give the .pub file that lies beside it"),
        Kind("lfs-pointer", "a Git LFS pointer", "the content itself was never fetched",
             "run `git lfs pull` in its repository"),
        Kind("annex-pointer", "a git-annex pointer", "the content itself was never fetched",
             "run `git annex get {file}`"),
        Kind("html", "an HTML page", "a server answered with a page, often an error or a login",
             _DOWNLOAD, (".html", ".htm", ".xhtml")),
        Kind("xml", "an XML document", "storage servers answer so when they refuse",
             _DOWNLOAD, (".xml", ".plist")),
        Kind("answer", "a short answer of a server", "it is an error message in place of the file",
             _DOWNLOAD),
        Kind("gzip", "a gzip archive", "", "unpack it with `gunzip -k {file}`",
             (".gz", ".tgz")),
        Kind("zip", "a ZIP archive", "", "unpack it with `unzip {file}`", (".zip",)),
        Kind("tar", "a tar archive", "", "unpack it with `tar -xf {file}`", (".tar",)),
        Kind("archive", "a compressed archive (bzip2, xz, zstd, 7z or RAR)", "", "unpack it first",
             (".bz2", ".xz", ".zst", ".7z", ".rar")),
        Kind("picture", "a picture or a PDF", suffixes=(".png", ".jpg", ".jpeg", ".gif", ".pdf")),
        Kind("program", "a program or a library", suffixes=(".so", ".dylib", ".exe", ".dll")),
        Kind("empty", "an empty file (0 bytes)", "a copy or a download did not finish",
             "copy or download it again"),
        Kind("zeros", "a file of zeros", "a copy or a download did not finish",
             "copy or download it again"),
        Kind("text", "a text", suffixes=(".txt", ".csv", ".tsv", ".json")),
        Kind("binary", "a file of no kind that asrbuild knows"),
        Kind("folder", "a folder"),
        Kind("pipe", "a pipe", "asrbuild reads plain files",
             "write it to a file first"),
        Kind("device", "a device or a socket", "asrbuild reads plain files",
             "write it to a file first"),
    )
}  # fmt: skip

_AUDIO = frozenset({"wav", "flac", "ogg", "mp3", "audio"})
#: A file only by its wrapping, or by accident: nothing else can be done with it.
_UNUSED = frozenset({"lfs-pointer", "annex-pointer", "html", "xml", "answer", "zeros", "gzip",
                     "zip", "tar", "archive", "mlpackage-zip", "mp4", "film", "pipe",
                     "device"})  # fmt: skip
_FOLDERS = frozenset({"folder", "saved-model", "checkpoint", "mlpackage", "mlmodelc", "aimodel",
                      "artifact"})  # fmt: skip
_CHECKPOINT_FILES = ("meta-graph", "checkpoint-index", "checkpoint-data", "checkpoint-state")

GRAPH = Place(
    "a TensorFlow graph",
    frozenset({"graph", "graph-unfrozen", "pbmm"}),
    "give a frozen graph (output_graph.pb)",
)
GRAPH_TO_RUN = Place(
    "a frozen TensorFlow graph",
    frozenset({"graph", "pbmm"}),
    "give a frozen graph (output_graph.pb)",
)
GRAPH_SOURCE = Place(
    "a frozen TensorFlow graph",
    frozenset({"graph", "pbmm", "tflite"}),
    "give a frozen graph (output_graph.pb), a .pbmm or a .tflite of DeepSpeech",
    dict.fromkeys(_CHECKPOINT_FILES, "set source=checkpoint source.checkpoint_dir={folder}")
    | {"checkpoint": "set source=checkpoint source.checkpoint_dir={file}"},
)
LITE = Place(
    "a TensorFlow Lite model", frozenset({"tflite"}), "give the .tflite of a DeepSpeech model"
)
CHECKPOINT = Place(
    "a TensorFlow checkpoint",
    frozenset({"checkpoint", "folder", *_CHECKPOINT_FILES}),
    "give the folder that DeepSpeech's --checkpoint_dir wrote",
    dict.fromkeys(("graph", "pbmm", "tflite"), "set source=frozen_graph source.path={file}"),
)
PACKAGE = Place(
    "a Core ML package",
    frozenset({"mlmodel", "mlpackage"}),
    "give a .mlpackage directory or a .mlmodel file that coremltools or asrbuild wrote",
)
ARTIFACT = Place(
    "an artifact",
    frozenset({"artifact", "manifest"}),
    "give an artifact's directory, or a name that `asrbuild ls` lists",
)
BUNDLE = Place("a bundle", frozenset({"asrb"}), "give a .asrb file of `asrbuild bundle`")
RECORDING = Place(
    "a recording", _AUDIO | {"binary"}, "give a WAV, FLAC, OGG or MP3 file"
)  # libsndfile knows more containers than are listed here
#: A recording without a header can begin with any bytes.
SAMPLES = Place(
    "samples without a header",
    frozenset(KINDS)
    - _FOLDERS
    - {"pipe", "device", "empty", "lfs-pointer", "annex-pointer", "html"},
    "give mono 16-bit PCM, little-endian",
)
CHECKPOINT_INDEX = Place(
    "the index of a checkpoint", frozenset({"checkpoint-index"}), "copy the checkpoint again"
)
#: Weights may begin with any bytes; what stands for a file that was never fetched does not.
CHECKPOINT_DATA = Place(
    "the data file of a checkpoint",
    SAMPLES.takes - {"annex-pointer", "xml", "answer", "pipe", "device"},
    "copy the checkpoint again",
)
CHECKPOINT_STATE = Place(
    "the state file of a checkpoint folder",
    frozenset({"checkpoint-state", "text", "csv", "empty", "binary"}),
    "copy it again, or name the checkpoint: source.checkpoint_dir=folder/best_dev-1234",
)
FLAGS = Place(
    "the flags of a training run",
    frozenset({"text", "csv", "json", "empty", "binary"}),
    "copy the flags.txt of the training run again, or move this file out of the folder",
)
SCORER = Place(
    "a scorer package",
    frozenset({"scorer"}),
    "give a DeepSpeech .scorer package; `asrbuild scorer build` makes one",
)
ARPA = Place(
    "an ARPA file", frozenset({"arpa"}), "give an ARPA file, for instance from KenLM's lmplz"
)
ALPHABET = Place(
    "an alphabet",
    frozenset({"text", "csv"}),
    "give DeepSpeech's alphabet.txt, one label a line",
)
TEXT = Place("a text", frozenset({"text", "csv"}), "give a text file in UTF-8")
DATASET = Place(
    "a data set",
    frozenset({"csv", "text", "folder", "checkpoint"}),
    "give a CSV with wav_filename and transcript, or a folder of a.wav with a.txt",
)
ARRAY = Place("a numpy array", frozenset({"npy"}), "write it with numpy.save, one array a file")
PUBLIC_KEY = Place(
    "a public key", frozenset({"public-key"}), "give the .pub file that `asrbuild key new` wrote"
)

#: The keys of a recipe that name a file, and what each takes.
KEYS = {
    "source.path": GRAPH_SOURCE,
    "source.checkpoint_dir": CHECKPOINT,
    "source.alphabet_config_path": ALPHABET,
    "source.sample.audio": RECORDING,
    "source.sample.text": TEXT,
    "source.second.audio": RECORDING,
    "source.second.text": TEXT,
    "decoder.scorer_path": SCORER,
    "verify.evaluation": DATASET,
    "tune.data": DATASET,
}


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is something of this name; a name that no file can have is not there.

    Raises:
        OSError: the system does not say, for instance in a folder that may not be read.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False
    return True


def require(path: str | os.PathLike[str], place: Place, *, key: str | None = None) -> Kind:
    """The kind of a file that a place takes.

    Args:
        path: the file or folder.
        place: what takes it.
        key: the config key or option that named it.

    Raises:
        AsrbuildError: it is missing, unreadable, or of another kind, which is named.
    """
    path = Path(path)
    # A name that no file can have (too long, a zero byte) is a file that is not there.
    if not exists(path):
        noun = place.wants.partition(" ")[2]
        raise AsrbuildError(f"no such {noun}", key=key, file=path, fix=place.fix)
    kind = recognise(path, key=key)
    if kind.key in place.takes:
        return kind
    named = f" (its name ends in {path.suffix})" if _misnamed(path, kind) else ""
    why = f": {kind.why}" if kind.why else ""
    raise AsrbuildError(
        f"{key or 'this'} is {kind.what}{named}, not {place.wants}{why}",
        key=key,
        file=path,
        fix=advice(path, place, kind),
    )


def advice(path: Path, place: Place, kind: Kind) -> str:
    """What to do about a file of a kind that a place does not take."""
    told = place.instead.get(kind.key, kind.instead)
    told = told.replace("{file}", shlex.quote(str(path)))
    told = told.replace("{folder}", shlex.quote(str(path.parent)))
    if kind.key in place.instead:
        return told
    if kind.key == "empty":
        return f"{told}, or {place.fix}"
    if kind.key in _UNUSED:
        return told
    return f"{place.fix}; {told}" if told else place.fix


def _misnamed(path: Path, kind: Kind) -> bool:
    """Whether the name says another kind; a kind by accident has the name of what is missing."""
    suffix = path.suffix.lower()
    if kind.key in _UNUSED | {"empty"} or suffix in kind.suffixes:
        return False
    return any(suffix in other.suffixes for other in KINDS.values())


def recognise(path: str | os.PathLike[str], *, key: str | None = None) -> Kind:
    """What a file or folder is.

    Raises:
        AsrbuildError: it is missing or unreadable.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return KINDS[_folder(path)]
        if stat.S_ISFIFO(mode):
            return KINDS["pipe"]
        if not stat.S_ISREG(mode):
            return KINDS["device"]
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(_HEAD)
            if not head:
                return KINDS["empty"]
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _kind(path, head, data, size)
    except FileNotFoundError:
        raise AsrbuildError("there is no such file", key=key, file=path) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise AsrbuildError(f"cannot be read: {reason}", key=key, file=path) from error
    except ValueError as error:  # a path with a NUL byte
        raise AsrbuildError(f"cannot be read: {error}", key=key, file=str(path)) from error


def _folder(path: Path) -> str:
    # By exact names: some file systems take manifest.json for Manifest.json.
    with os.scandir(path) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    if "Manifest.json" in names:
        return "mlpackage"
    if "manifest.json" in names and recognise(path / "manifest.json").key == "manifest":
        return "artifact"
    if names & {"saved_model.pb", "saved_model.pbtxt"}:
        return "saved-model"
    if "coremldata.bin" in names or {"model.espresso.net", "model.mil"} & names:
        return "mlmodelc"
    if "main.mlirb" in names:
        return "aimodel"
    if names & {"checkpoint", "best_dev_checkpoint"} or any(n.endswith(".index") for n in names):
        return "checkpoint"
    return "folder"


#: Offset, bytes, kind; the first that fits decides.
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


def _kind(path: Path, head: bytes, data: mmap.mmap, size: int) -> Kind:
    for offset, signature, key in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return KINDS[key]
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"FORM") and head[8:11] in (b"WAV", b"AIF"):
        return KINDS["wav" if head[8:11] == b"WAV" else "audio"]
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return KINDS[_zip(path)]
    if head.startswith(b"mmap lm http://kheafield.com/code"):
        at = data.rfind(b"EIRT", max(0, size - _TRIE_WITHIN))
        return KINDS["scorer" if at >= 0 and _TRIE.match(data, at) else "kenlm"]
    if size >= 48 and data[-8:] == struct.pack("<Q", _TABLE_MAGIC):
        return KINDS["checkpoint-index"]
    if _memory_mapped(data, size):
        return KINDS["pbmm"]
    if (message := _message(data)) is not None:
        return KINDS[message]
    if (text := _text_of(head, size)) is not None:
        return _text_kind(*text, size <= len(head))
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and data[size - 1] == 0x2E:
        return KINDS["pickle"]
    if size > 10 and head[8:10] == b'{"' and struct.unpack("<Q", head[:8])[0] < size:
        return KINDS["safetensors"]
    if _mp3_frame(head):
        return KINDS["mp3"]
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        # Raw numbers have no signature: here the name is all there is.
        return KINDS["checkpoint-data"]
    if not any(head) and not any(data[-_HEAD:]):
        return KINDS["zeros"]
    return KINDS["binary"]


def _mp3_frame(head: bytes) -> bool:
    """MPEG audio: eleven set bits, then no reserved version, layer, bit rate or sample rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    return bool(head[1] >> 3 & 3 != 1 and head[1] >> 1 & 3 and head[2] >> 4 not in (0, 15)
                and head[2] >> 2 & 3 != 3)  # fmt: skip


def _zip(path: Path) -> str:
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


@contextmanager
def _view(data: mmap.mmap) -> Iterator[memoryview]:
    """A view that is let go of, so that the map can be closed."""
    with memoryview(data) as view:
        yield view


def _memory_mapped(data: mmap.mmap, size: int) -> bool:
    """Whether it ends with a directory of regions and the directory's offset, as a ``.pbmm``."""
    if size < 9:
        return False
    (at,) = struct.unpack("<Q", data[-8:])
    return at < size - 8 and MEMORY_MAPPED in data[at : at + 64]


def _message(data: mmap.mmap) -> str | None:
    """The kind of a protobuf message, by its outline; None where it is no message of these."""
    if data[:1] not in (b"\n", b"\x08", b"\x12", b"\x22"):
        return None
    with _view(data) as view:
        fields = _outline(view)
        first = fields[0] if fields else None
        try:
            if first is None:
                return None
            if first[:2] == (1, VARINT):
                return _numbered_message(fields)
            return _graph_message(fields)
        finally:
            for _, _, value in fields:
                if isinstance(value, memoryview):
                    value.release()


Fields = list[tuple[int, int, "int | memoryview"]]


def _outline(data: memoryview, most: int = _MOST_FIELDS) -> Fields:
    """Fields up to the first fault or the end, the last one cut off where the file is."""
    found: Fields = []
    at = 0
    try:
        while at < len(data) and len(found) < most:
            tag, at = read_varint(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                value, at = read_varint(data, at)
                found.append((number, kind, value))
                continue
            size = {FIXED32: 4, FIXED64: 8}.get(kind, -1)
            if kind == BYTES:
                size, at = read_varint(data, at)
            if number == 0 or size < 0:
                break
            found.append((number, kind, data[at : at + size]))
            at += size
    except WireError:
        pass
    return found


def _numbered_message(fields: Fields) -> str | None:
    """A message that begins with a version: Core ML, ONNX or SavedModel."""
    numbers = {number for number, _, _ in fields}
    if any(200 <= number <= 3000 for number in numbers):
        return "mlmodel"
    if numbers & {7, 8} and numbers <= {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}:
        return "onnx"
    if numbers == {1, 2} and all(kind == BYTES for number, kind, _ in fields if number == 2):
        inner = _outline(_bytes(fields[1][2]), 8)
        if inner and inner[0][:2] == (1, BYTES) and _graph_message(inner) == "meta-graph":
            return "saved-model-file"
        return "mlmodel" if inner and inner[0][0] in (1, 10, 100) else None
    return None


def _graph_message(fields: Fields) -> str | None:
    """GraphDef or MetaGraphDef."""
    number, kind, value = fields[0]
    if number == 1 and kind == BYTES:
        if _node_op(_bytes(value)) is not None:
            ops = (_node_op(_bytes(v)) for n, k, v in fields if n == 1 and k == BYTES)
            return "graph-unfrozen" if any(op in _VARIABLES for op in ops) else "graph"
        second = next((v for n, k, v in fields if n == 2 and k == BYTES), None)
        if second is not None and (inner := _outline(_bytes(second), 2)):
            n, k, v = inner[0]
            if n == 1 and k == BYTES and _node_op(_bytes(v)) is not None:
                return "meta-graph"
    return None


def _bytes(value: int | memoryview) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")


def _node_op(node: memoryview) -> bytes | None:
    """The operation of a ``NodeDef``; None where this is none."""
    fields = _outline(node, 2)
    if [one[:2] for one in fields] != [(1, BYTES), (2, BYTES)]:
        return None
    op = bytes(_bytes(fields[1][2])[:512])
    return op if _OP_NAME.match(op) else None


_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"),
          (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
          (b"\xfe\xff", "utf-16"))  # fmt: skip
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\x0b\f\r\x1b")


def _text_of(head: bytes, size: int) -> tuple[str, str] | None:
    """The beginning of a text and its encoding; None where the bytes are no text."""
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
_COLUMNS = frozenset({"wav_filename", "wav_filesize", "transcript", "path", "sentence", "audio",
                      "text", "client_id", "filename", "file", "duration"})  # fmt: skip
_ENCODINGS = {"utf-8": "", "utf-8-sig": "", "latin-1": ", not in UTF-8"}


def _text_kind(text: str, encoding: str, whole: bool) -> Kind:
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
        r"|invalid (username|credentials)|access to model", start, re.I,
    ):  # fmt: skip
        return KINDS["answer"]
    if (delimiter := _delimiter(start)) is not None:
        how = f" with {_DELIMITERS[delimiter]}{_ENCODINGS.get(encoding, f' in {encoding.upper()}')}"
        return replace(KINDS["csv"], what=f"a table{how}")
    return replace(
        KINDS["text"], what=f"a text{_ENCODINGS.get(encoding, f' in {encoding.upper()}')}"
    )


def _json_kind(start: str, whole: bool) -> Kind | None:
    """JSON, of one use or another; None where the text only begins like it."""
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
    """What parts the cells of a table's first line; None where it is no table.

    A first line that names a known column is one; so are lines with as many tabs or semicolons.
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


def existing_file(path: str | None, key: str) -> Path:
    """The file or folder that a key of the recipe names.

    Raises:
        AsrbuildError: it is missing, or of another kind than the key takes.
    """
    found = resolve_file(path or "")
    if not path or not os.path.exists(found):
        raise AsrbuildError(
            f"{key} names no file", key=key, file=found, fix=f"set {key}= to a file that exists"
        )
    if key in KEYS:
        require(found, KEYS[key], key=key)
    return found
