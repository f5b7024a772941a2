"""Checks that a scorer fits an alphabet: its words must have the same spelling with it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.scorer.package import Lexicon, ScorerInfo, in_trie, murmur, read_scorer

#: The number of random paths through the trie whose words are looked up in the language model.
_SPELLED = 200
#: Limit of words for spelling out all of a trie; one of 2^60 words fits into a kilobyte.
MOST_SPELLED = 5_000_000


@dataclass(frozen=True)
class Spelling:
    """The spelling of a scorer's words with an alphabet.

    Args:
        words: number of words checked: all of them, or a sample of a trie with more than
            ``MOST_SPELLED``.
        unspelled: number of words with a label that the alphabet does not have.
        otherwise: number of words that become a word which the language model does not have.
        examples: some of the latter, in the alphabet's spelling.
    """

    words: int
    unspelled: int
    otherwise: int
    examples: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the alphabet spells every word as the scorer does."""
        return not self.unspelled and not self.otherwise

    def __str__(self) -> str:
        shown = f", for instance {', '.join(map(repr, self.examples))}" if self.examples else ""
        return (
            f"the alphabet cannot spell {self.unspelled} of {self.words} words, and spells "
            f"{self.otherwise} otherwise{shown}"
        )


def check_scorer(path: str | Path, alphabet: Alphabet) -> ScorerInfo:
    """Raises unless a scorer was made for this alphabet; returns its facts.

    Raises:
        AsrbuildError: the file is not a scorer, or was made for another alphabet.
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
    """Raises unless the language model has the words that this alphabet makes of the trie.

    A trie may have some words that the model lacks: the model must have half of them.
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
    """Counts a scorer's words that this alphabet cannot spell, or spells in another way.

    The trie has labels, the language model has hashes of words: a word spelled with another
    alphabet has a hash that the model lacks. With the scorer's own alphabet, the model has every
    word. In UTF-8 mode labels are bytes, so there is nothing to compare.

    Args:
        path: the package.
        alphabet: the model's.
        whole: check every word; else a sample of some 200.

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
    # Entries have 8 bytes, or 12 with their weights, so hashes start at multiples of 4.
    parts = np.frombuffer(keys, "<u4", len(keys) // 4).astype(np.uint64)
    known = np.isin(hashes, parts[:-1] | parts[1:] << np.uint64(32))
    unknown = [text for text, there in zip(texts, known, strict=True) if not there]
    return Spelling(len(words), len(words) - len(spelled), len(unknown), tuple(unknown[:3]))


def unknown_words(path: str | Path, words: Iterable[str], alphabet: Alphabet) -> list[str]:
    """The words of ``words`` that are not in the scorer's trie, so that decoding never gives them.

    Raises:
        AsrbuildError: it is not a scorer.
    """
    info, lexicon = read_scorer(Path(path))
    end = [] if info.bytes_output else [-1 if info.space is None else info.space]
    return [word for word in words if not in_trie(lexicon, alphabet.encode(word) + end)]


def _every_word(lexicon: Lexicon) -> Iterator[tuple[int, ...]]:
    """Yields the labels, without the final space, of each word of a valid trie."""
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
    """Yields the labels, without the final space, of words on random paths through a valid trie."""
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
