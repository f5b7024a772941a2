"""The labels of a DeepSpeech model: its alphabet.txt, or its UTF-8 (bytes output) mode.

Label i of the model is line i of the file; the CTC blank comes after the last one. In the file a
line starting with ``#`` is a comment, ``\\#`` is the label ``#``, one space alone is the space
label, and empty lines do not count. Lines end with LF, CR LF or CR. The file may have a label
twice: each is a class of its own. Format source: ``Alphabet::init`` in DeepSpeech 0.9.3's
``native_client/alphabet.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import ALPHABET
from asrbuild.base.kinds.recognition import require
from asrbuild.speech.tokens import TokenKind, spans

_BOM = "\ufeff"


@dataclass(frozen=True)
class Alphabet:
    """Labels in model order, without the blank.

    Args:
        labels: text of each label; in bytes output one character stands for each byte 1 to 255.
        bytes_output: the model writes UTF-8 bytes: label i is byte i + 1.
    """

    labels: tuple[str, ...]
    bytes_output: bool = False

    @property
    def kind(self) -> TokenKind:
        """``bytes`` in UTF-8 mode, else ``characters``."""
        return "bytes" if self.bytes_output else "characters"

    @property
    def size(self) -> int:
        """The number of labels, without the blank."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """The number of the model's classes, with the blank."""
        return len(self.labels) + 1

    @property
    def blank(self) -> int:
        """Index of the CTC blank, the last class of the model."""
        return len(self.labels)

    @property
    def space(self) -> int | None:
        """Index of the label between words, if the alphabet has one."""
        return self.labels.index(" ") if " " in self.labels else None

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of label indices; bytes that are not UTF-8 become the replacement character."""
        if self.bytes_output:
            return bytes(token + 1 for token in tokens).decode("utf-8", errors="replace")
        return "".join(self.labels[token] for token in tokens)

    def encode(self, text: str) -> list[int]:
        """Label indices of a text.

        Raises:
            AsrbuildError: a character is not in the alphabet.
        """
        if self.bytes_output:
            return [byte - 1 for byte in text.encode("utf-8")]
        # For a label that the file has twice, DeepSpeech uses the last index, too.
        index = {label: position for position, label in enumerate(self.labels)}
        strange = sorted({character for character in text if character not in index})
        if strange:
            raise AsrbuildError(
                f"not in the alphabet: {' '.join(map(repr, strange[:10]))}",
                fix=f"the alphabet has {''.join(self.labels)!r}",
            )
        return [index[character] for character in text]

    def words(self, tokens: Sequence[int]) -> list[range]:
        """Positions of each word's labels, between the spaces."""
        return spans(tokens, self.space)

    @property
    def graph_labels(self) -> list[bytes]:
        """The labels as bytes, as a graph's metadata holds them."""
        encoding = "latin-1" if self.bytes_output else "utf-8"
        return [label.encode(encoding) for label in self.labels]

    def file_text(self) -> str:
        """The alphabet as DeepSpeech's alphabet.txt."""
        return "".join(("\\#" if label == "#" else label) + "\n" for label in self.labels)


def bytes_alphabet() -> Alphabet:
    """UTF-8 mode: 255 labels, the bytes 1 to 255."""
    return Alphabet(tuple(chr(byte) for byte in range(1, 256)), bytes_output=True)


def read_alphabet(path: str | Path, size: int | None = None) -> Alphabet:
    """Reads alphabet.txt.

    A byte order mark is not part of the first line. DeepSpeech keeps it, so for a model that was
    trained with such a file a comment in the first line is a label: it is one here if only that
    makes ``size`` labels.

    Args:
        path: the file.
        size: number of the model's labels, if that is known.

    Raises:
        AsrbuildError: the file is missing, is not UTF-8 text, or has no labels.
    """
    path = Path(path)
    require(path, ALPHABET)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            f"the alphabet is not UTF-8 text (byte {error.start})",
            file=path,
            fix="give DeepSpeech's alphabet.txt, one label a line",
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}", file=path) from error
    labels = _labels(text.removeprefix(_BOM))
    if size is not None and len(labels) != size and text.startswith(_BOM):
        kept = _labels(text)
        labels = kept if len(kept) == size else labels
    if not labels:
        raise AsrbuildError("the alphabet has no labels", file=path, fix="write one label a line")
    return Alphabet(tuple(labels))


def make_alphabet(labels: Sequence[str], *, bytes_output: bool = False) -> Alphabet:
    """Makes an alphabet of given labels, for instance those of a manifest."""
    if bytes_output:
        return bytes_alphabet()
    if not all(labels):
        raise AsrbuildError("the alphabet has an empty label", key="decoder.alphabet")
    return Alphabet(tuple(labels))


def check_size(alphabet: Alphabet, n_output: int, *, file: str | Path | None = None) -> None:
    """Raises unless the model has one class for each label and one for the blank.

    Raises:
        AsrbuildError: the model has another number of classes.
    """
    if alphabet.size + 1 != n_output:
        raise AsrbuildError(
            f"the alphabet has {alphabet.size} labels, the model {n_output} classes: "
            f"it needs {n_output - 1} labels and the blank",
            key="alphabet_config_path",
            file=file,
            fix="give the alphabet.txt the model was trained with",
        )


def _labels(text: str) -> list[str]:
    labels = []
    for line in re.split(r"\r\n|\r|\n", text):
        if line == "\\#":
            labels.append("#")
        elif line and not line.startswith("#"):
            labels.append(line)
    return labels
