"""Whether a scorer fits an alphabet: the labels of its words, and the words that they spell."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.scorer.package import Lexicon, ScorerInfo, in_trie, murmur, read_scorer

#: So many ways through the trie are spelled out, to see whether the language model knows the words.
_SPELLED = 200
#: The largest trie of which every word is spelled out; a trie of 2^60 words fits into a kilobyte.
MOST_SPELLED = 5_000_000


@dataclass(frozen=True)
class Spelling:
    """The spelling of a scorer's words by an alphabet.

    Args:
        words: how many were looked at: all, or of a trie with more than ``MOST_SPELLED`` some.
        unspelled: with a label that the alphabet does not have.
        otherwise: that it spells as a word which the language model does not know.
        examples: some of these, as the alphabet spells them.
    """

    words: int
    unspelled: int
    otherwise: int
    examples: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not self.unspelled and not self.otherwise

    def __str__(self) -> str:
        shown = f", for instance {', '.join(map(repr, self.examples))}" if self.examples else ""
        return (
            f"the alphabet cannot spell {self.unspelled} of {self.words} words, and spells "
            f"{self.otherwise} otherwise{shown}"
        )


def check_scorer(path: str | Path, alphabet: Alphabet) -> ScorerInfo:
    """The package's facts, if it can score this alphabet.

    Raises:
        AsrbuildError: it is not a scorer, or was made for another alphabet.
    """
    path = Path(path)
    info, lexicon = read_scorer(path)
    if info.bytes_output != alphabet.bytes_output:
        mode = {True: "UTF-8 bytes", False: "characters"}
        raise AsrbuildError(
            f"the scorer was made for {mode[info.bytes_output]}, the model writes "
            f"{mode[alphabet.bytes_output]}",
            key="decoder.scorer_path",
            file=path,
            fix="build a scorer with this model's alphabet",
        )
    strange = [label for label in info.labels if label >= alphabet.size]
    if strange or (not info.bytes_output and info.space != alphabet.space):
        what = (
            f"it spells words with label {strange[-1]}, the alphabet has {alphabet.size}"
            if strange
            else f"its words end with label {info.space}, the alphabet's space is {alphabet.space}"
        )
        raise AsrbuildError(
            f"the scorer was made for another alphabet: {what}",
            key="decoder.scorer_path",
            file=path,
            fix="build a scorer with this model's alphabet",
        )
    if not info.bytes_output:
        _check_spelling(lexicon, alphabet, path)
    return info


def _check_spelling(lexicon: Lexicon, alphabet: Alphabet, path: Path) -> None:
    """The words that this alphabet makes of the trie must be words of the language model.

    A trie may hold some words that the model does not: half of them must be known.
    """
    found = _spelling(sorted(set(_some_words(lexicon))), lexicon.keys, alphabet)
    if 2 * found.otherwise > found.words:
        raise AsrbuildError(
            "the scorer was made for another alphabet: with this one its words are spelled "
            f"{', '.join(map(repr, found.examples))}, which its language model does not know",
            key="decoder.scorer_path",
            file=path,
            fix="build a scorer with this model's alphabet",
        )


def compare_spelling(path: str | Path, alphabet: Alphabet, *, whole: bool = True) -> Spelling:
    """The numbers of the scorer's words that this alphabet cannot spell, or spells otherwise.

    The trie holds labels, and the language model hashes of words: a word of other labels than it
    was made with has a hash that the model does not have. With the alphabet that a scorer was made
    with, every word is known. In UTF-8 mode labels are bytes, so there is nothing to compare.

    Args:
        path: the package.
        alphabet: the model's.
        whole: look at every word; else at some 200, which takes no time.

    Raises:
        AsrbuildError: it is not a scorer.
    """
    info, lexicon = read_scorer(Path(path))
    if info.bytes_output or alphabet.bytes_output:
        return Spelling(info.words, 0, 0, ())
    every = whole and info.words <= MOST_SPELLED
    words = list(_every_word(lexicon)) if every else sorted(set(_some_words(lexicon)))
    return _spelling(words, lexicon.keys, alphabet)


def _spelling(words: list[tuple[int, ...]], keys: bytes, alphabet: Alphabet) -> Spelling:
    spelled = [word for word in words if max(word, default=0) < alphabet.size]
    texts = [alphabet.decode(word) for word in spelled]
    hashes = np.array([murmur(text.encode()) for text in texts], np.uint64)
    # Entries are 8 bytes, or 12 with what belongs to them, so hashes start at multiples of 4.
    parts = np.frombuffer(keys, "<u4", len(keys) // 4).astype(np.uint64)
    known = np.isin(hashes, parts[:-1] | parts[1:] << np.uint64(32))
    unknown = [text for text, there in zip(texts, known, strict=True) if not there]
    return Spelling(len(words), len(words) - len(spelled), len(unknown), tuple(unknown[:3]))


def unknown_words(path: str | Path, words: Iterable[str], alphabet: Alphabet) -> list[str]:
    """The words that are not in the scorer's trie, so that no decoding can end with them.

    Raises:
        AsrbuildError: it is not a scorer.
    """
    info, lexicon = read_scorer(Path(path))
    end = [] if info.bytes_output else [-1 if info.space is None else info.space]
    return [word for word in words if not in_trie(lexicon, alphabet.encode(word) + end)]


def _every_word(lexicon: Lexicon) -> Iterator[tuple[int, ...]]:
    """Labels, without the last one's space, of each word of a sound trie."""
    final = np.isfinite(lexicon.states["final"]).tolist()
    firsts, counts = lexicon.states["first"].tolist(), lexicon.states["arcs"].tolist()
    labels = (lexicon.arcs["ilabel"] - 1).tolist()
    nexts = lexicon.arcs["next"].tolist()
    waiting: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while waiting:
        at, word = waiting.pop()
        if final[at]:
            yield word[:-1]
        for arc in range(firsts[at], firsts[at] + counts[at]):
            waiting.append((nexts[arc], (*word, labels[arc])))


def _some_words(lexicon: Lexicon) -> Iterator[tuple[int, ...]]:
    """Labels, without the last one's space, of words met on random ways through a sound trie."""
    chance = random.Random(0)
    states, arcs = lexicon.states, lexicon.arcs
    for _ in range(_SPELLED):
        at, labels = 0, []
        while states["arcs"][at]:
            first, count = int(states["first"][at]), int(states["arcs"][at])
            arc = arcs[first + chance.randrange(count)]
            labels.append(int(arc["ilabel"]) - 1)
            at = int(arc["next"])
        if np.isfinite(states["final"][at]):
            yield tuple(labels[:-1])
