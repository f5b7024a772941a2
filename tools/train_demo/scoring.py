"""Greedy decoding, edit distance, and error rates with their counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from corpus import ALPHABET

BLANK = len(ALPHABET)


def greedy(scores: np.ndarray) -> str:
    """The best path through scores [time, 29], repeats merged and blanks removed."""
    best = scores.argmax(-1)
    kept = best[np.flatnonzero(np.diff(best, prepend=BLANK))]
    return "".join(ALPHABET[label] for label in kept if label != BLANK)


def distance(one: Sequence, other: Sequence) -> int:
    """Levenshtein distance between two sequences."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
            diagonal, row[j] = row[j], best
    return row[-1]


@dataclass(frozen=True)
class Score:
    """Errors and totals of one set."""

    utterances: int
    characters: int
    character_errors: int
    words: int
    word_errors: int

    @property
    def cer(self) -> float:
        return 100.0 * self.character_errors / self.characters

    @property
    def wer(self) -> float:
        return 100.0 * self.word_errors / self.words


def score(pairs: Sequence[tuple[str, str]]) -> Score:
    """The errors of (expected, recognized) pairs."""
    return Score(
        len(pairs),
        sum(len(said) for said, _ in pairs),
        sum(distance(said, heard) for said, heard in pairs),
        sum(len(said.split()) for said, _ in pairs),
        sum(distance(said.split(), heard.split()) for said, heard in pairs),
    )
