"""Reads the file of labels that comes with a CTC model.

Formats, recognised by content:

- JSON: a list of labels, or ``{label: class}`` (``vocab.json`` of Hugging Face's CTC tokenisers);
- ``label class`` lines (``tokens.txt`` of k2, WeNet and sherpa);
- ``piece<TAB>score`` lines (``.vocab`` of SentencePiece);
- one label a line (ESPnet, NeMo, or written by hand).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.tokens import TokenKind, Vocabulary

#: Labels that usually stand between words, the most usual first.
BOUNDARIES = {
    "characters": ("|", " ", "<space>", "\u2581"),
    "phonemes": ("<wb>", "|", "<space>", " "),
}
#: The label of a blank that the file does not list.
BLANK = "<blank>"
_SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z]+\]")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def read_vocabulary(
    path: str | Path,
    kind: TokenKind,
    *,
    classes: int | None = None,
    blank: str | int | None = "last",
    boundary: str | None = "",
    silent: Sequence[str] | None = None,
) -> Vocabulary:
    """Reads the labels of a model.

    Args:
        path: the file.
        kind: the kind of token that a class is.
        classes: number of the model's classes, if that is known. A file with one label fewer does
            not list the blank, which is inserted where ``blank`` says.
        blank: ``first``, ``last``, a class, or the blank's label; None for ``classes``.
        boundary: the label between words; None: there is none; ``""``: the usual label of the kind,
            if the file has it.
        silent: labels that print nothing; None: those in angle or square brackets, such as
            ``<unk>`` and ``[PAD]``.

    Raises:
        AsrbuildError: the file is not a list of labels, or does not fit the model.
    """
    path = Path(path)
    labels = _labels(_text(path), path)
    if kind == "classes":
        blank = None
    place = None if blank is None else _blank(labels, blank, classes, path)
    if classes is not None and len(labels) != classes:
        raise AsrbuildError(
            f"the file has {len(labels)} labels, the model {classes} classes",
            key="tokens.file",
            file=path,
            fix="give the labels that the model was trained with; the blank may be left out",
        )
    edge = _boundary(labels, kind, boundary, path)
    taken = {place, edge}
    if silent is None:
        hushed = {
            at
            for at, label in enumerate(labels)
            if kind != "classes" and _SPECIAL.fullmatch(label) and not _BYTE.fullmatch(label)
        }
    else:
        hushed = {_position(labels, label, "tokens.silent", path) for label in silent}
    return Vocabulary(tuple(labels), kind, place, edge, frozenset(hushed - taken))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            f"the labels are not UTF-8 text (byte {error.start})",
            key="tokens.file",
            file=path,
            fix="give the model's tokens.txt or vocab.json",
        ) from error
    except OSError as error:
        raise AsrbuildError(
            f"cannot be read: {error.strerror}",
            key="tokens.file",
            file=path,
            fix="give the model's tokens.txt or vocab.json",
        ) from error


def _labels(text: str, path: Path) -> list[str]:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _of_json(json.loads(text), path)
        except json.JSONDecodeError as error:
            # A list by hand may begin with the label [ or {.
            if error.pos and len(text.split("\n", 1)[0].strip()) > 1:
                raise AsrbuildError(
                    f"is no JSON: {error.msg} in line {error.lineno}", key="tokens.file", file=path
                ) from error
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line]
    for pattern, read in ((r"(.*)[ \t](\d+)", _numbered), (r"(.*)\t(-?\d+\.?[\d.e-]*)", _scored)):
        matched = [re.fullmatch(pattern, line) for line in lines]
        if len(lines) > 1 and all(matched):
            found = read([(m[1], m[2]) for m in matched if m])
            if found is not None:
                return found
    if not lines:
        raise AsrbuildError(
            "the vocabulary has no labels", key="tokens.file", file=path, fix="one label a line"
        )
    return lines


def _numbered(pairs: list[tuple[str, str]]) -> list[str] | None:
    """The labels in the order of their classes; None unless these are 0, 1, 2 and so on."""
    numbers = [int(number) for _, number in pairs]
    if sorted(numbers) != list(range(len(numbers))):
        return None
    return [label for label, _ in sorted(pairs, key=lambda pair: int(pair[1]))]


def _scored(pairs: list[tuple[str, str]]) -> list[str]:
    return [label for label, _ in pairs]


def _of_json(value: Any, path: Path) -> list[str]:
    if isinstance(value, list) and value and all(isinstance(label, str) for label in value):
        return value
    if isinstance(value, dict) and value:
        numbers = list(value.values())
        if all(type(number) is int for number in numbers):
            found = _numbered([(label, str(number)) for label, number in value.items()])
            if found is not None:
                return found
    raise AsrbuildError(
        "is no list of labels and no {label: class} with the classes 0, 1, 2 and so on",
        key="tokens.file",
        file=path,
        fix="give the model's vocab.json, or a text file with one label a line",
    )


def _blank(labels: list[str], blank: str | int, classes: int | None, path: Path) -> int:
    """The blank's class; adds a label for it if the file does not list the blank."""
    unlisted = classes is not None and len(labels) == classes - 1
    if blank == "first":
        if unlisted:
            labels.insert(0, BLANK)
        return 0
    if blank == "last":
        if unlisted:
            labels.append(BLANK)
        return len(labels) - 1
    if isinstance(blank, int):
        if unlisted and 0 <= blank <= len(labels):
            labels.insert(blank, BLANK)
        return blank
    return _position(labels, blank, "tokens.blank", path)


def _boundary(
    labels: Sequence[str], kind: TokenKind, boundary: str | None, path: Path
) -> int | None:
    if boundary is None:
        return None
    if boundary:
        return _position(labels, boundary, "tokens.boundary", path)
    usual = (label for label in BOUNDARIES.get(kind, ()) if label in labels)
    found = next(usual, None)
    return None if found is None else labels.index(found)


def _position(labels: Sequence[str], label: str, key: str, path: Path) -> int:
    if label not in labels:
        raise AsrbuildError(
            f"the vocabulary has no label {label!r}",
            key=key,
            file=path,
            fix=f"its labels are {', '.join(map(repr, labels[:8]))} and so on; "
            "or give the number of the class",
        )
    return labels.index(label)
