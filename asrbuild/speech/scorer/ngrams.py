"""N-gram language models: estimated from a text, or read from an ARPA file.

The estimate is interpolated modified Kneser-Ney smoothing (Chen and Goodman, 1998), as KenLM's
``lmplz --discount_fallback`` computes it. It needs the whole text in memory, so it is for texts of
some million words; ``lmplz`` makes an ARPA file from a text of any size.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import ARPA
from asrbuild.base.kinds.recognition import require

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
_MARKS = frozenset((UNKNOWN, BEGIN, END))
#: log10 probability of the start of a sentence, which is never predicted.
NEVER = -99.0
#: Discounts for counts of 1, 2 and 3 or more, if a text is too small to estimate them.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

Gram = tuple[str, ...]


@dataclass(frozen=True)
class NgramModel:
    """A language model: per order, n-gram -> (log10 probability, log10 backoff).

    The longest n-grams have backoff 0.
    """

    tables: tuple[dict[Gram, tuple[float, float]], ...]

    @property
    def order(self) -> int:
        """The greatest n of its n-grams."""
        return len(self.tables)

    @property
    def words(self) -> list[str]:
        """All words except the marks, such as ``<s>``."""
        return [gram[0] for gram in self.tables[0] if gram[0] not in _MARKS]

    def log10(self, context: Sequence[str], word: str) -> float:
        """log10 P(word | context), by the backoff rule."""
        known = self.tables[0]
        history = tuple(w if (w,) in known else UNKNOWN for w in context)[1 - self.order :]
        target = word if (word,) in known else UNKNOWN
        penalty = 0.0
        for start in range(len(history) + 1):
            gram = (*history[start:], target)
            if gram in self.tables[len(gram) - 1]:
                return penalty + self.tables[len(gram) - 1][gram][0]
            context_gram = gram[:-1]
            penalty += self.tables[len(context_gram) - 1].get(context_gram, (0.0, 0.0))[1]
        raise KeyError(target)


def estimate(sentences: Iterable[Sequence[str]], order: int) -> NgramModel:
    """Estimates a Kneser-Ney model from sentences.

    Raises:
        AsrbuildError: there are no words, a word is a mark such as ``<s>``, or the order is not
        from 2 to 6.
    """
    if not 2 <= order <= 6:
        raise AsrbuildError(f"order {order} is not from 2 to 6", key="order")
    raw = _count(sentences, order)
    if not raw[0]:
        raise AsrbuildError("the text has no words", fix="give one sentence a line")
    counts = [_adjusted(raw, n) for n in range(1, order)] + [raw[-1]]
    probabilities: dict[Gram, float] = {}
    backoffs: dict[Gram, float] = {}
    vocabulary = [gram for gram in raw[0] if gram != (BEGIN,)]
    for table in counts:
        discounts = _discounts(table)
        totals: Counter[Gram] = Counter()
        removed: defaultdict[Gram, float] = defaultdict(float)
        for gram, count in table.items():
            totals[gram[:-1]] += count
            removed[gram[:-1]] += discounts[min(count, 3) - 1]
        for context, total in totals.items():
            backoffs[context] = removed[context] / total
        for gram, count in table.items():
            context = gram[:-1]
            # A unigram falls back on the uniform distribution, the unknown word included.
            lower = probabilities[gram[1:]] if context else 1.0 / (len(vocabulary) + 1)
            own = (count - discounts[min(count, 3) - 1]) / totals[context]
            probabilities[gram] = own + backoffs[context] * lower
    probabilities[(UNKNOWN,)] = backoffs[()] / (len(vocabulary) + 1)
    tables: list[dict[Gram, tuple[float, float]]] = [{} for _ in range(order)]
    tables[0] = {(UNKNOWN,): (0.0, 0.0), (BEGIN,): (NEVER, _log10(backoffs.get((BEGIN,), 1.0)))}
    for gram, probability in probabilities.items():
        tables[len(gram) - 1][gram] = (_log10(probability), _log10(backoffs.get(gram, 1.0)))
    return NgramModel(tuple(tables))


def characters(line: str) -> list[str]:
    """The words of a UTF-8 mode scorer: the characters of a line, spaces between words included.

    Spaces do not count in a line whose characters are separated by spaces (``你 好``, for lmplz).
    """
    words = line.split()
    return words if all(len(word) == 1 for word in words) else list(" ".join(words))


def read_arpa(path: Path) -> NgramModel:
    """Reads a language model from an ARPA file, as lmplz writes it.

    Raises:
        AsrbuildError: it is not an ARPA file, or not whole.
    """
    require(path, ARPA)
    tables: list[dict[Gram, tuple[float, float]]] = []
    counts: list[int] = []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for line in lines:
                _arpa_line(line.strip("\n"), counts, tables)
    except (OSError, ValueError) as error:
        raise AsrbuildError(f"not an ARPA file: {error}", file=path) from error
    if not tables or [len(table) for table in tables] != counts:
        raise AsrbuildError(
            f"the ARPA file is not whole: it has {[len(t) for t in tables]} n-grams of {counts}",
            file=path,
            fix="make it again with lmplz",
        )
    if len(tables) < 2:
        raise AsrbuildError("a scorer needs bigrams at least", file=path)
    tables[0].setdefault((UNKNOWN,), (-100.0, 0.0))
    return NgramModel(tuple(tables))


def _arpa_line(line: str, counts: list[int], tables: list[dict[Gram, tuple[float, float]]]) -> None:
    if line.startswith("ngram "):
        counts.append(int(line.split("=")[1]))
    elif line.endswith("-grams:"):
        tables.append({})
    elif tables and line and not line.startswith("\\"):
        probability, words, *backoff = line.split("\t")
        gram = tuple(words.split(" "))
        if len(gram) != len(tables):
            raise ValueError(f"{words!r} is no {len(tables)}-gram")
        tables[-1][gram] = (float(probability), float(backoff[0]) if backoff else 0.0)


def _count(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Gram]]:
    raw: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        if not sentence:
            continue
        if mark := _MARKS.intersection(sentence):
            raise AsrbuildError(
                f"the text has {min(mark)} as a word, a mark of the language model's own",
                fix="remove it from the text",
            )
        marked = (BEGIN, *sentence, END)
        for n in range(1, order + 1):
            raw[n - 1].update(_grams(marked, n))
    return raw


def _grams(words: Gram, n: int) -> Iterator[Gram]:
    return (words[at : at + n] for at in range(len(words) - n + 1))


def _adjusted(raw: list[Counter[Gram]], n: int) -> Counter[Gram]:
    """The number of different words before each n-gram; a plain count at a sentence's start."""
    adjusted: Counter[Gram] = Counter(longer[1:] for longer in raw[n])
    adjusted.update({gram: count for gram, count in raw[n - 1].items() if gram[0] == BEGIN})
    if n == 1:
        del adjusted[(BEGIN,)]
    return adjusted


def _discounts(counts: Counter[Gram]) -> tuple[float, float, float]:
    of = Counter(min(count, 5) for count in counts.values())
    n1, n2, n3, n4 = (of[k] for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    sound = all(0 <= discount <= k for k, discount in enumerate(found, start=1))
    return found if sound else FALLBACK_DISCOUNTS


def _log10(probability: float) -> float:
    return math.log10(probability) if probability > 0 else NEVER
