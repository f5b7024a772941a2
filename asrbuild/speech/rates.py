"""Word, character and phoneme error rates, with their counts and confidence intervals.

Texts are normalised before counting: letters become lower case, runs of white space become one
space, and ends are trimmed; nothing else changes. Punctuation and apostrophes count, and ß is not
ss. Characters are counted with the spaces between words. A rate is the errors divided by the
reference units of the whole set, not a mean of rates.

Phonemes are not letters: for a model that writes phonemes, case is kept, a text is brought into the
model's own form (``h eɪ v | f aɪ v``), and phonemes are counted instead of characters. A word is
right if all its phonemes are right.

Characters of a reference that the model's labels cannot spell always count as errors; ``unspelled``
finds such references, which DeepSpeech's own evaluation refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.tokens import PHONEME_BOUNDARY, Tokens, Vocabulary

RESAMPLES = 1000
SEED = 20_200_708
#: The letter that marks a Turkic alphabet.
_TURKIC = "\u0131"


@dataclass(frozen=True)
class Counts:
    """Edits between a reference and a hypothesis, in words, characters or phonemes."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference unit; for an empty reference, 1 if there is any error."""
        return self.errors / self.reference if self.reference else float(self.errors > 0)


@dataclass(frozen=True)
class CountedPair:
    """The counts of words and characters for one pair of texts, and the normalised texts.

    ``characters`` counts phonemes if the model writes phonemes.
    """

    words: Counts
    characters: Counts
    expected: str
    transcript: str


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a rate."""

    low: float
    high: float


@dataclass(frozen=True)
class ErrorRates:
    """Error rates of a data set, with confidence intervals from resampled utterances.

    ``characters``, ``cer`` and ``cer_interval`` count the ``unit``: characters, or phonemes if the
    model writes phonemes.
    """

    utterances: tuple[CountedPair, ...]
    words: Counts
    characters: Counts
    wer_interval: Interval
    cer_interval: Interval
    unit: Literal["characters", "phonemes"] = "characters"

    @property
    def wer(self) -> float:
        """Word error rate."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character or phoneme error rate."""
        return self.characters.rate


def normalise(text: str, tokens: Tokens | None = None) -> str:
    """Normalises a text for comparison.

    Lower case is Unicode's; for labels with the dotless ı, it is the Turkic lower case, where İ is
    the capital of i and I that of ı (SpecialCasing.txt, tr and az).
    """
    if tokens is not None and tokens.kind == "phonemes":
        try:
            return tokens.decode(tokens.encode(text))
        except AsrbuildError:  # ``unspelled`` reports it
            return " ".join(text.split())
    if tokens is not None and _TURKIC in tokens.labels:
        text = text.replace("I\u0307", "i").replace("İ", "i").replace("I", _TURKIC)
    return " ".join(text.lower().split())


def unspelled(text: str, tokens: Tokens) -> tuple[str, ...]:
    """The characters of a reference that no label of the model can spell, in order, each once."""
    if tokens.kind == "bytes" or (isinstance(tokens, Vocabulary) and tokens.spells_bytes):
        return ()
    known = {character for label in _printed(tokens) for character in normalise(label, tokens)}
    if tokens.space is not None or tokens.kind in ("pieces", "phonemes"):
        known.add(" ")
    if tokens.kind == "phonemes":
        known.add(PHONEME_BOUNDARY)
    if known.issuperset(normalise(text, tokens)):
        return ()
    one_by_one = dict.fromkeys(" ".join(text.split()))
    strange = tuple(
        c for c in one_by_one if not known.issuperset(normalise(c, tokens) if c != " " else c)
    )
    return strange or tuple(c for c in dict.fromkeys(normalise(text, tokens)) if c not in known)


def _printed(tokens: Tokens) -> Sequence[str]:
    """The text of each label; that of a vocabulary's blank is empty."""
    if tokens.kind == "characters" and not isinstance(tokens, Vocabulary):
        return tokens.labels
    return [tokens.decode([token]) for token in range(tokens.classes)]


def unspelled_text(references: Sequence[str], tokens: Tokens) -> str:
    """The characters that the labels lack, most frequent first: ``'1' in 3 of 8 references``.

    Empty if the labels spell every reference.
    """
    counts = Counter(c for text in references for c in unspelled(text, tokens))
    total = f"{len(references)} references"
    shown = [f"{_shown(c)} in {n} of {total}" for c, n in counts.most_common(5)]
    more = [f"{len(counts) - 5} more characters"] if len(counts) > 5 else []
    return ", ".join(shown + more)


def _shown(character: str) -> str:
    """The character in quotes, or the name of a character that is not printed alone."""
    import unicodedata

    if character.isprintable() and not unicodedata.combining(character):
        return f"'{character}'"
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def count(reference: str, hypothesis: str, tokens: Tokens | None = None) -> CountedPair:
    """Counts the edits of one pair; ``tokens``: see :func:`normalise`."""
    expected, found = normalise(reference, tokens), normalise(hypothesis, tokens)
    if tokens is not None and tokens.kind == "phonemes":
        return count_phonemes(expected, found)
    return CountedPair(
        _counts(expected, found, words=True), _counts(expected, found, words=False), expected, found
    )


def count_phonemes(expected: str, found: str) -> CountedPair:
    """Edits of one pair of phonemes, both in the model's own form: ``h eɪ v | f aɪ v``."""
    return CountedPair(
        _counts(_phoneme_words(expected), _phoneme_words(found), words=True),
        _counts(_phonemes(expected), _phonemes(found), words=True),
        expected,
        found,
    )


def _phonemes(text: str) -> str:
    """``h eɪ | j u`` without its word boundaries."""
    return " ".join(part for part in text.split() if part != PHONEME_BOUNDARY)


def _phoneme_words(text: str) -> str:
    """``h eɪ | j u`` with each word in one piece: ``h_eɪ j_u``."""
    words = f" {text} ".split(f" {PHONEME_BOUNDARY} ")
    return " ".join("_".join(word.split()) for word in words)


def error_rates(
    references: Sequence[str],
    hypotheses: Sequence[str],
    confidence: float = 0.95,
    tokens: Tokens | None = None,
) -> ErrorRates:
    """Computes the error rates of a set of pairs.

    Args:
        references: the expected transcripts.
        hypotheses: the transcripts, in the same order.
        confidence: level of the intervals, such as 0.95, from a bootstrap over utterances with a
            fixed seed.
        tokens: the model's labels; see :func:`normalise`.

    Raises:
        AsrbuildError: the two differ in number, or are empty.
    """
    if len(references) != len(hypotheses) or not references:
        raise AsrbuildError(
            f"cannot compare {len(references)} references with {len(hypotheses)} transcripts"
        )
    pairs = zip(references, hypotheses, strict=True)
    utterances = tuple(count(reference, found, tokens) for reference, found in pairs)
    words = [utterance.words for utterance in utterances]
    characters = [utterance.characters for utterance in utterances]
    return ErrorRates(
        utterances,
        total(words),
        total(characters),
        _bootstrap(words, confidence),
        _bootstrap(characters, confidence),
        "phonemes" if tokens is not None and tokens.kind == "phonemes" else "characters",
    )


def _counts(reference: str, hypothesis: str, *, words: bool) -> Counts:
    import jiwer

    size = len(reference.split()) if words else len(reference)
    if not reference:
        # jiwer does not accept an empty reference: every word of the transcript is an insertion.
        return Counts(0, 0, len(hypothesis.split()) if words else len(hypothesis), 0)
    process = jiwer.process_words if words else jiwer.process_characters
    split = jiwer.ReduceToListOfListOfWords() if words else jiwer.ReduceToListOfListOfChars()
    plain = jiwer.Compose([split])
    found = process(reference, hypothesis, reference_transform=plain, hypothesis_transform=plain)
    return Counts(found.substitutions, found.deletions, found.insertions, size)


def total(counts: Sequence[Counts]) -> Counts:
    """The sum of counts."""
    return Counts(
        sum(c.substitutions for c in counts),
        sum(c.deletions for c in counts),
        sum(c.insertions for c in counts),
        sum(c.reference for c in counts),
    )


def _bootstrap(counts: Sequence[Counts], confidence: float) -> Interval:
    """Percentile interval of the pooled rate over resampled utterances; the same every time."""
    errors = np.array([c.errors for c in counts], np.float64)
    sizes = np.array([c.reference for c in counts], np.float64)
    rng = np.random.default_rng(SEED)
    draws = rng.integers(0, len(counts), (RESAMPLES, len(counts)))
    totals = sizes[draws].sum(axis=1)
    wrong = errors[draws].sum(axis=1)
    rates = np.where(totals > 0, wrong / np.maximum(totals, 1.0), wrong > 0)  # as in Counts.rate
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
