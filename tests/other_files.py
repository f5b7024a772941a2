"""One small file or folder of every kind in :mod:`asrbuild.base.kinds`."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import Node, Shape, graph_pieces
from asrbuild.base.protobuf import bytes_field, int_field, message_field
from tests.paths import DEMO, GENUINE

PB = GENUINE / "deepspeech-0.9.3" / "x_r1_16.pb"
TFLITE = GENUINE / "coqui-1.4.0" / "x_q1t.tflite"
CHECKPOINT = GENUINE / "deepspeech-0.9.3" / "checkpoint"


def joined(*pieces: Sequence[bytes | memoryview] | bytes) -> bytes:
    return b"".join(bytes(p) if isinstance(p, bytes) else b"".join(p) for p in pieces)


def node(name: str, op: str, *inputs: str) -> list[bytes | memoryview]:
    """A ``NodeDef`` as field 1 of a ``GraphDef``."""
    fields = [bytes_field(1, name.encode()), bytes_field(2, op.encode())]
    fields += [bytes_field(3, i.encode()) for i in inputs]
    return message_field(1, [joined(*fields)])


GRAPH = joined(node("x", "Placeholder"), node("y", "Identity", "x"))
UNFROZEN = joined(node("x", "Placeholder"), node("w", "VariableV2"), node("y", "MatMul", "x", "w"))
META = joined(message_field(1, bytes_field(4, b"serve")), message_field(2, [UNFROZEN]))
SAVED_MODEL = joined([int_field(1, 1)], message_field(2, [META]))
ONNX = joined(
    [int_field(1, 8)],
    bytes_field(2, b"pytorch"),
    bytes_field(3, b"2.1"),
    message_field(7, bytes_field(2, b"main")),
    message_field(8, [int_field(2, 17)]),
)
MLMODEL = joined(
    [int_field(1, 4)],
    message_field(2, message_field(1, bytes_field(1, b"input"))),
    message_field(500, []),
)
PAGE = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
ROWS = [["wav_filename", "wav_filesize", "transcript"], ["a.wav", "1", "yes"]]


def table(delimiter: str) -> str:
    return "".join(delimiter.join(row) + "\n" for row in ROWS)


def archive(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"{}")


def folder(path: Path, *names: str) -> None:
    for name in names or (".",):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if name != ".":
            (path / name).write_bytes(b"{}")
    path.mkdir(exist_ok=True)


def sound(path: Path, container: str) -> None:
    with path.open("wb") as file:
        soundfile.write(file, np.zeros(400, np.int16), 16_000, format=container)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        file.add(DEMO / "alphabet.txt", "alphabet.txt")


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def pipe_socket(path: Path) -> None:
    # A socket's path has 100 bytes at most, so a short one is used.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


def memory_mapped(graph: Path, path: Path, smallest: int = 1000, lengths: bool = True) -> None:
    """Writes a frozen graph as TensorFlow's ``convert_graphdef_memmapped_format`` does.

    Args:
        graph: a ``.pb``.
        path: the ``.pbmm`` to write.
        smallest: bytes from which a constant becomes a region.
        lengths: write the regions' lengths, which early versions left out.
    """
    body, directory, nodes = b"", [], []

    def add(name: bytes, content: bytes) -> None:
        nonlocal body
        body += bytes(-len(body) % 64)
        fields = [int_field(1, len(body)), *bytes_field(2, name)]
        fields += [int_field(3, len(content))] if lengths else []
        directory.extend(message_field(1, fields))
        body += content

    loaded = load_graph(graph)
    for one in loaded.nodes:
        if one.op == "Const" and one.value.dtype.kind == "f" and one.value.nbytes >= smallest:
            name = f"memmapped_package://{one.name.replace('/', '_')}".encode()
            add(name, one.value.tobytes())
            attrs = {
                "dtype": one.attrs["dtype"],
                "shape": Shape(one.value.shape),
                "memory_region_name": name,
            }
            one = Node(one.name, "ImmutableConst", one.inputs, attrs, one.device)
        nodes.append(one)
    add(b"memmapped_package://.", joined(list(graph_pieces(nodes, loaded.producer))))
    path.write_bytes(body + joined(directory) + struct.pack("<Q", len(body)))


def tiny_memory_mapped() -> bytes:
    """A ``.pbmm`` with one region, of a graph that does not read it."""
    region = bytes(range(64))
    element = lambda at, name, size: message_field(  # noqa: E731
        1, [joined([int_field(1, at)], bytes_field(2, name), [int_field(3, size)])]
    )
    directory = joined(
        element(0, b"memmapped_package://tensor_0", 64),
        element(64, b"memmapped_package://.", len(GRAPH)),
    )
    return region + GRAPH + directory + struct.pack("<Q", 64 + len(GRAPH))


def artifact(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text(MANIFEST)


def of(content: bytes | str, encoding: str = "utf-8") -> Callable[[Path], object]:
    data = content.encode(encoding) if isinstance(content, str) else content
    return lambda path: path.write_bytes(data)


def copy(source: Path) -> Callable[[Path], object]:
    return lambda path: (
        shutil.copytree(source, path) if source.is_dir() else shutil.copyfile(source, path)
    )


SCORER = (DEMO / "prompts.scorer").read_bytes()
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 701047152\n"
MANIFEST = json.dumps({"schema_version": "1.0", "artifact_id": "a"})
KEYS = "-----BEGIN {} KEY-----\nMCowBQYDK2VwAyEA\n-----END {} KEY-----\n"

#: File name -> (kind, how it is made). Names are the usual ones; those of the last part are wrong.
FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "output_graph.pb": ("graph", copy(PB)),
    "unfrozen.pb": ("graph-unfrozen", of(UNFROZEN)),
    "output_graph.pbmm": ("pbmm", of(tiny_memory_mapped())),
    "output_graph.tflite": ("tflite", copy(TFLITE)),
    "model.ckpt.meta": ("meta-graph", of(META)),
    "graph.pbtxt": ("graph-text", of('node {\n  name: "x"\n  op: "Placeholder"\n}\n')),
    "saved_model.pb": ("saved-model-file", of(SAVED_MODEL)),
    "saved": ("saved-model", lambda path: folder(path, "saved_model.pb", "variables/x")),
    "best_dev-590.index": ("checkpoint-index", copy(CHECKPOINT / "best_dev-590.index")),
    "best_dev-590.data-00000-of-00001": (
        "checkpoint-data",
        copy(CHECKPOINT / "best_dev-590.data-00000-of-00001"),
    ),
    "best_dev_checkpoint": ("checkpoint-state", copy(CHECKPOINT / "best_dev_checkpoint")),
    "ckpt": ("checkpoint", copy(CHECKPOINT)),
    "model.mlmodel": ("mlmodel", of(MLMODEL)),
    "model.mlpackage": ("mlpackage", lambda path: folder(path, "Manifest.json", "Data/x")),
    "model.mlpackage.zip": (
        "mlpackage-zip",
        lambda path: archive(
            path, "m.mlpackage/Manifest.json", "m.mlpackage/Data/com.apple.CoreML/model.mlmodel"
        ),
    ),
    "model.mlmodelc": ("mlmodelc", lambda path: folder(path, "coremldata.bin", "model.mil")),
    "model.aimodel": ("aimodel", lambda path: folder(path, "main.mlirb", "metadata.json")),
    "model.onnx": ("onnx", of(ONNX)),
    "model.ort": ("ort", of(b"\x20\0\0\0ORTM" + bytes(40))),
    "model.h5": ("keras-h5", of(b"\x89HDF\r\n\x1a\n" + bytes(40))),
    "model.keras": (
        "keras",
        lambda path: archive(path, "metadata.json", "config.json", "model.weights.h5"),
    ),
    "model.pt": (
        "pytorch",
        lambda path: archive(path, "archive/data.pkl", "archive/version", "archive/data/0"),
    ),
    "model.pt2": (
        "pytorch-exported",
        lambda path: archive(path, "m/archive_format", "m/models/model.json"),
    ),
    "model.pth": ("pytorch-legacy", of(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02M.")),
    "data.pkl": ("pickle", of(pickle.dumps({"a": 1}, 4))),
    "model.safetensors": ("safetensors", of(struct.pack("<Q", 2) + b'{"' + b'"}' * 9)),
    "kenlm.scorer": ("scorer", of(SCORER)),
    "lm.binary": ("kenlm", of(SCORER[: SCORER.index(b"EIRT")])),
    "lm.arpa": ("arpa", of("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\tx\n\n\\end\\\n")),
    "a.wav": ("wav", lambda path: sound(path, "WAV")),
    "a.flac": ("flac", lambda path: sound(path, "FLAC")),
    "a.ogg": ("ogg", lambda path: sound(path, "OGG")),
    "a.mp3": ("mp3", lambda path: sound(path, "MP3")),
    "a.aiff": ("audio", lambda path: sound(path, "AIFF")),
    "a.m4a": ("mp4", of(b"\0\0\0\x20ftypM4A " + bytes(40))),
    "a.webm": ("film", of(b"\x1a\x45\xdf\xa3" + bytes(40))),
    "set.csv": ("csv", of(table(","))),
    "semicolons.csv": ("csv", of(table(";"))),
    "set.tsv": ("csv", of(table("\t"))),
    "utf16.csv": ("csv", of(table(","), "utf-16")),
    "latin.csv": ("csv", of(table(",") + "b.wav,1,für\n", "latin-1")),
    "bom.csv": ("csv", of(table(","), "utf-8-sig")),
    "a.npy": ("npy", array),
    "a.npz": ("npz", arrays),
    "manifest.json": ("manifest", of(MANIFEST)),
    "artifact": ("artifact", artifact),
    "flags.json": ("json", of(json.dumps({"n_hidden": 2048, "list": [1, 2]}))),
    "a.asrb": ("asrb", of(b"\x89ASR\r\n\x1a\n" + struct.pack("<I", 2) + b"{}")),
    "mailed.asrb": ("asrb-as-text", of(b"\x89ASR\n\x1a\n" + struct.pack("<I", 2) + b"{}")),
    "release.pub": ("public-key", of("# release\n" + KEYS.format("PUBLIC", "PUBLIC"))),
    "release.key": ("private-key", of(KEYS.format("PRIVATE", "PRIVATE"))),
    "pointer.pb": ("lfs-pointer", of(LFS)),
    "annexed.pb": ("annex-pointer", of("/annex/objects/SHA256E-s7--0\n")),
    "page.html": ("html", of(PAGE)),
    "denied.xml": ("xml", of('<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>')),
    "missing.json": ("answer", of("Entry not found")),
    "error.json": ("answer", of('{"error": "Repository not found"}')),
    "output_graph.pb.gz": ("gzip", of(b"\x1f\x8b\x08" + bytes(40))),
    "models.zip": ("zip", lambda path: archive(path, "models/output_graph.pb")),
    "models.tar": ("tar", tar),
    "models.tar.xz": ("archive", of(b"\xfd7zXZ\0" + bytes(40))),
    "poster.png": ("picture", of(b"\x89PNG\r\n\x1a\n" + bytes(40))),
    "asrbuild": ("program", of(b"\x7fELF" + bytes(40))),
    "nothing.pb": ("empty", of(b"")),
    "unwritten.pb": ("zeros", of(bytes(5000))),
    "notes.txt": ("text", of("read me first\n")),
    "alphabet.txt": ("text", copy(DEMO / "alphabet.txt")),
    "noise": ("binary", of(bytes(range(7, 256)) * 3)),
    "plain": ("folder", folder),
    "pipe": ("pipe", os.mkfifo),
    "socket": ("device", pipe_socket),
    # Names of another kind: the content decides.
    "mapped.pb": ("pbmm", lambda path: memory_mapped(PB, path)),
    "lite.pb": ("tflite", copy(TFLITE)),
    "graph.scorer": ("graph", copy(PB)),
    "page.pb": ("html", of(PAGE)),
    "page.wav": ("html", of(PAGE)),
    "page.scorer": ("html", of(PAGE)),
    "page.csv": ("html", of(PAGE)),
    "page.mlmodel": ("html", of(PAGE)),
    "pointer.wav": ("lfs-pointer", of(LFS)),
    "pointer.scorer": ("lfs-pointer", of(LFS)),
    "pointer.asrb": ("lfs-pointer", of(LFS)),
    "network.mlpackage": ("mlmodel", of(MLMODEL)),
    "sound.txt": ("wav", lambda path: sound(path, "WAV")),
    "song.wav": ("mp3", lambda path: sound(path, "MP3")),
}


def make(folder: Path) -> Path:
    """Makes every file of :data:`FILES` in one folder."""
    folder.mkdir(exist_ok=True)
    for name, (_, maker) in FILES.items():
        maker(folder / name)
    return folder
