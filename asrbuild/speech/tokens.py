"""Tokens: the labels of a CTC model's classes, and the text that they make.

DeepSpeech models have an :class:`asrbuild.speech.alphabet.Alphabet`, all others a
:class:`Vocabulary`. Decoders, error rates and the runtime use the protocol :class:`Tokens` for
both.

Text of each kind:

- ``characters``: the labels joined; the boundary label (``|``, ``<space>``) becomes a space.
- ``pieces``: SentencePiece's pieces joined; ``▁`` begins a word and becomes a space; ``<0x41>`` is
the byte 41.
- ``phonemes``: separated by one space, words by `` | ``: ``h eɪ v | f aɪ v``.
- ``classes``: one label for a row, such as a keyword; there is no blank. A network with one number
a row has two labels: that of the number, and that of everything else.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, get_args

from asrbuild.base.errors import AsrbuildError

TokenKind = Literal["characters", "bytes", "pieces", "phonemes", "classes"]
#: The kinds of tokens that a vocabulary can have; bytes are DeepSpeech's UTF-8 mode.
VOCABULARY_KINDS = tuple(kind for kind in get_args(TokenKind) if kind != "bytes")
#: SentencePiece's mark for the beginning of a word.
WORD_MARK = "\u2581"
#: The text between two words of phonemes.
PHONEME_BOUNDARY = "|"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokens(Protocol):
    """The labels of a model's classes; a token is the index of a class."""

    @property
    def kind(self) -> TokenKind:
        """The kind of token that a class is."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels by class; DeepSpeech's alphabet has none for the blank, its last class."""
        ...

    @property
    def classes(self) -> int:
        """The number of the model's classes, with the blank."""
        ...

    @property
    def blank(self) -> int | None:
        """Class of the CTC blank; None where the model has none."""
        ...

    @property
    def space(self) -> int | None:
        """Class of the label between words, if there is one."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a sequence of tokens without blanks."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; raises ``AsrbuildError`` if the labels cannot spell it."""
        ...

    def words(self, tokens: Sequence[int]) -> list[range]:
        """The positions in ``tokens`` of each word's labels, in order; none is empty."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a model that is not DeepSpeech's.

    Args:
        labels: one for each class, in the order of the classes; the blank has one as well.
        kind: the kind of token that a class is.
        blank: class of the CTC blank; None for ``classes``.
        boundary: class of the label between words, if there is one.
        silent: classes that print nothing, such as ``<unk>`` and ``<s>``.
    """

    labels: tuple[str, ...]
    kind: TokenKind
    blank: int | None = None
    boundary: int | None = None
    silent: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for error in _mistakes(self):
            raise error

    @property
    def classes(self) -> int:
        return len(self.labels)

    @property
    def space(self) -> int | None:
        return self.boundary

    def decode(self, tokens: Iterable[int]) -> str:
        said = [token for token in tokens if token not in self._unprinted]
        if self.kind in ("phonemes", "classes"):
            marked = (
                PHONEME_BOUNDARY if token == self.boundary else self.labels[token] for token in said
            )
            return " ".join(marked)
        text = b"".join(self._bytes[token] for token in said).decode("utf-8", errors="replace")
        if self.kind == "pieces":
            return text.replace(WORD_MARK, " ").removeprefix(" ")
        return text

    def encode(self, text: str) -> list[int]:
        """The tokens of a text: at each position the longest label that fits.

        Phonemes may be separated by spaces, and words by `` | ``. In a text with neither, a space
        separates words: ``heɪv faɪv``.

        Raises:
            AsrbuildError: no label fits at some position.
        """
        if self.kind == "classes":
            return [self._label(text)]
        if self.kind == "phonemes":
            return self._encode_phonemes(text)
        if self.kind == "pieces":
            text = WORD_MARK + text.replace(" ", WORD_MARK)
        elif self.boundary is not None:
            # In texts the boundary is a space, whatever its label is.
            inside = (self._longest(part) for part in text.split(" "))
            return _joined(inside, self.boundary)
        return self._longest(text)

    def words(self, tokens: Sequence[int]) -> list[range]:
        found: list[range]
        if self.kind == "classes":
            found = [range(at, at + 1) for at in range(len(tokens))]
        elif self.kind == "pieces":
            starts = [at for at, token in enumerate(tokens) if self._begins_word(token)]
            edges = sorted({0, *starts, len(tokens)})
            found = [range(*pair) for pair in itertools.pairwise(edges)]
        else:
            found = spans(tokens, self.boundary)
        return [span for span in found if self.decode(tokens[at] for at in span)]

    @property
    def spells_bytes(self) -> bool:
        """Whether it has a piece for every byte, so that it can spell any text."""
        return self.kind == "pieces" and "<0x00>" in self._index and "<0xFF>" in self._index

    @cached_property
    def _unprinted(self) -> frozenset[int]:
        return self.silent if self.blank is None else self.silent | {self.blank}

    @cached_property
    def _bytes(self) -> tuple[bytes, ...]:
        """The UTF-8 text of each class."""
        printed = []
        for token, label in enumerate(self.labels):
            byte = _BYTE.fullmatch(label) if self.kind == "pieces" else None
            if byte:
                printed.append(bytes([int(byte[1], 16)]))
            elif token == self.boundary:
                printed.append(b" ")
            else:
                printed.append(label.encode())
        return tuple(printed)

    @cached_property
    def _index(self) -> Mapping[str, int]:
        """The class of each label that a text can have; of equal labels, the first."""
        said = [t for t in range(self.classes) if t not in self._unprinted and t != self.boundary]
        return {self.labels[token]: token for token in reversed(said)}

    @cached_property
    def _longest_label(self) -> int:
        return max(map(len, self._index), default=1)

    def _begins_word(self, token: int) -> bool:
        return token == self.boundary or self.labels[token].startswith(WORD_MARK)

    def _longest(self, text: str) -> list[int]:
        tokens, at = [], 0
        while at < len(text):
            sizes = range(min(self._longest_label, len(text) - at), 0, -1)
            size = next((size for size in sizes if text[at : at + size] in self._index), 0)
            if not size and self.spells_bytes:
                tokens += [self._index[f"<0x{byte:02X}>"] for byte in text[at].encode()]
                at += 1
                continue
            if not size:
                raise AsrbuildError(
                    f"no label of the model begins {text[at : at + 10]!r}",
                    fix=f"the model has {len(self._index)} labels that a text can have; they "
                    f"begin with {_shown(self._index)}",
                )
            tokens.append(self._index[text[at : at + size]])
            at += size
        return tokens

    def _encode_phonemes(self, text: str) -> list[int]:
        if PHONEME_BOUNDARY in text.split():
            parts = re.split(rf"\s{re.escape(PHONEME_BOUNDARY)}(?=\s|$)", f" {text}")
        elif all(part in self._index for part in text.split()):
            parts = [text]
        else:
            parts = text.split()
        words = [
            [token for part in word.split() for token in self._longest(part)] for word in parts
        ]
        # Without a boundary label the words run into each other.
        return _joined(words, self.boundary)

    def _label(self, text: str) -> int:
        if text not in self._index:
            raise AsrbuildError(
                f"the model has no class {text!r}", fix=f"it has {_shown(self._index)}"
            )
        return self._index[text]


def spans(tokens: Sequence[int], boundary: int | None) -> list[range]:
    """The ranges of positions between boundary tokens, without empty ones."""
    breaks = [at for at, token in enumerate(tokens) if token == boundary]
    edges = zip([-1, *breaks], [*breaks, len(tokens)], strict=True)
    return [range(start + 1, stop) for start, stop in edges if start + 1 < stop]


def make_vocabulary(
    labels: Sequence[str],
    kind: TokenKind,
    blank: int | None,
    boundary: int | None = None,
    silent: Iterable[int] = (),
) -> Vocabulary:
    """Makes a vocabulary of given labels, for instance those of a manifest."""
    return Vocabulary(tuple(labels), kind, blank, boundary, frozenset(silent))


def _joined(words: Iterable[list[int]], boundary: int | None) -> list[int]:
    tokens: list[int] = []
    for number, word in enumerate(words):
        if number and boundary is not None:
            tokens.append(boundary)
        tokens += word
    return tokens


def _shown(labels: Iterable[str]) -> str:
    listed = [repr(label) for label in labels]
    return ", ".join(listed if len(listed) <= 12 else [*listed[:12], "..."])


def _mistakes(vocabulary: Vocabulary) -> Iterable[AsrbuildError]:
    key, classes = "tokens", len(vocabulary.labels)
    if vocabulary.kind not in VOCABULARY_KINDS:
        yield AsrbuildError(
            f"tokens of the kind {vocabulary.kind} have no vocabulary",
            key=f"{key}.kind",
            fix=f"choose one of {', '.join(VOCABULARY_KINDS)}",
        )
    if not classes:
        yield AsrbuildError("the vocabulary has no labels", key=f"{key}.file")
    named = {"blank": vocabulary.blank, "boundary": vocabulary.boundary}
    named |= {f"silent[{at}]": token for at, token in enumerate(sorted(vocabulary.silent))}
    for name, token in named.items():
        if token is not None and not 0 <= token < classes:
            yield AsrbuildError(
                f"{name} is class {token}; the model has the classes 0 to {classes - 1}",
                key=f"{key}.{name.partition('[')[0]}",
                fix="give the index of a label of the vocabulary",
            )
    if (vocabulary.kind == "classes") != (vocabulary.blank is None):
        has = "a" if vocabulary.blank is not None else "no"
        yield AsrbuildError(
            f"the vocabulary of {vocabulary.kind} has {has} blank",
            key=f"{key}.blank",
            fix="give the blank of a CTC model, and none where a row is one of several classes",
        )
    if vocabulary.blank is not None and vocabulary.blank == vocabulary.boundary:
        yield AsrbuildError(
            f"class {vocabulary.blank} is both the blank and the word boundary",
            key=f"{key}.boundary",
            fix="name another label as the boundary, or leave it out",
        )
