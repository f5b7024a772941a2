"""Word and character error rates, with their counts and confidence intervals.

Normalisation before counting, nothing else: letters are lower case, runs of white space are one
space, and ends are trimmed. Punctuation and apostrophes count, and ß is not ss. Characters are
counted with the spaces between words. Rates are errors over reference units of the whole set, not
means of single rates.

A reference that the model's alphabet cannot spell counts as errors of the model whatever it writes;
``unspelled`` finds such references, as DeepSpeech's own evaluation refuses them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet

RESAMPLES = 1000
SEED = 20_200_708
#: The letter by which a Turkic alphabet is known.
_TURKIC = "\u0131"


@dataclass(frozen=True)
class Counts:
    """Edits between a reference and a hypothesis, in words or in characters."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference unit; of an empty reference, 1 if there is any error."""
        return self.errors / self.reference if self.reference else float(self.errors > 0)


@dataclass(frozen=True)
class Utterance:
    """Both counts of one pair of texts, and the texts as they were compared."""

    words: Counts
    characters: Counts
    said: str
    heard: str


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a rate."""

    low: float
    high: float


@dataclass(frozen=True)
class ErrorRates:
    """Rates of a set, with 95 % intervals from resampled utterances."""

    utterances: tuple[Utterance, ...]
    words: Counts
    characters: Counts
    wer_interval: Interval
    cer_interval: Interval

    @property
    def wer(self) -> float:
        return self.words.rate

    @property
    def cer(self) -> float:
        return self.characters.rate


def normalise(text: str, alphabet: Alphabet | None = None) -> str:
    """The text as it is compared.

    Lower case is Unicode's: with an alphabet that has the dotless ı it is the Turkic one, where İ
    is the capital of i and I that of ı (SpecialCasing.txt, tr and az).
    """
    if alphabet is not None and _TURKIC in alphabet.labels:
        text = text.replace("I\u0307", "i").replace("İ", "i").replace("I", _TURKIC)
    return " ".join(text.lower().split())


def unspelled(text: str, alphabet: Alphabet) -> tuple[str, ...]:
    """The characters of a reference that the alphabet has no label for, in order, each once."""
    if alphabet.bytes_output:
        return ()
    known = {character for label in alphabet.labels for character in normalise(label, alphabet)}
    if alphabet.space is not None:
        known.add(" ")
    if known.issuperset(normalise(text, alphabet)):
        return ()
    one_by_one = dict.fromkeys(" ".join(text.split()))
    strange = tuple(
        c for c in one_by_one if not known.issuperset(normalise(c, alphabet) if c != " " else c)
    )
    return strange or tuple(c for c in dict.fromkeys(normalise(text, alphabet)) if c not in known)


def unspelled_text(references: Sequence[str], alphabet: Alphabet) -> str:
    """What the alphabet cannot spell, the most frequent first: ``'1' in 3 of 8 references``.

    Empty where it spells every reference.
    """
    counts = Counter(c for text in references for c in unspelled(text, alphabet))
    total = f"{len(references)} references"
    shown = [f"{_shown(c)} in {n} of {total}" for c, n in counts.most_common(5)]
    more = [f"{len(counts) - 5} more characters"] if len(counts) > 5 else []
    return ", ".join(shown + more)


def _shown(character: str) -> str:
    """The character in quotes, or its name where it does not stand alone."""
    import unicodedata

    if character.isprintable() and not unicodedata.combining(character):
        return f"'{character}'"
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def count(reference: str, hypothesis: str, alphabet: Alphabet | None = None) -> Utterance:
    """Edits of one pair; ``alphabet``: see :func:`normalise`."""
    expected, found = normalise(reference, alphabet), normalise(hypothesis, alphabet)
    return Utterance(
        _counts(expected, found, words=True), _counts(expected, found, words=False), expected, found
    )


def error_rates(
    references: Sequence[str],
    hypotheses: Sequence[str],
    confidence: float = 0.95,
    alphabet: Alphabet | None = None,
) -> ErrorRates:
    """Rates over a set of pairs.

    Args:
        references: the expected transcripts.
        hypotheses: the transcripts, in the same order.
        confidence: of the intervals, by the bootstrap over utterances with a fixed seed.
        alphabet: the model's; see :func:`normalise`.

    Raises:
        AsrbuildError: the two have not the same number, or none.
    """
    if len(references) != len(hypotheses) or not references:
        raise AsrbuildError(
            f"cannot compare {len(references)} references with {len(hypotheses)} transcripts"
        )
    pairs = zip(references, hypotheses, strict=True)
    utterances = tuple(count(reference, found, alphabet) for reference, found in pairs)
    words = [utterance.words for utterance in utterances]
    characters = [utterance.characters for utterance in utterances]
    return ErrorRates(
        utterances,
        total(words),
        total(characters),
        _bootstrap(words, confidence),
        _bootstrap(characters, confidence),
    )


def _counts(reference: str, hypothesis: str, *, words: bool) -> Counts:
    import jiwer

    size = len(reference.split()) if words else len(reference)
    if not reference:
        # jiwer takes no empty reference: every word of the transcript is an insertion.
        return Counts(0, 0, len(hypothesis.split()) if words else len(hypothesis), 0)
    process = jiwer.process_words if words else jiwer.process_characters
    split = jiwer.ReduceToListOfListOfWords() if words else jiwer.ReduceToListOfListOfChars()
    plain = jiwer.Compose([split])
    found = process(reference, hypothesis, reference_transform=plain, hypothesis_transform=plain)
    return Counts(found.substitutions, found.deletions, found.insertions, size)


def total(counts: Sequence[Counts]) -> Counts:
    """Edits of several pairs together."""
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
    rates = np.where(totals > 0, wrong / np.maximum(totals, 1.0), wrong > 0)  # as Counts.rate
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
