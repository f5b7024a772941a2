"""Error rates, compared with a textbook edit distance, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import bytes_alphabet, make_alphabet
from asrbuild.speech.rates import count, error_rates, normalise, unspelled, unspelled_text

WORDS = st.lists(st.sampled_from(["a", "bb", "c'c", "dd", "the"]), max_size=8).map(" ".join)


def _distance(left: Sequence[str], right: Sequence[str]) -> int:
    """The Levenshtein distance, row by row."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row = row, [i]
        for j, b in enumerate(right, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]


@given(reference=WORDS, hypothesis=WORDS)
def test_errors_are_the_edit_distance(reference: str, hypothesis: str) -> None:
    found = count(reference, hypothesis)
    assert found.words.errors == _distance(reference.split(), hypothesis.split())
    assert found.characters.errors == _distance(reference, hypothesis)
    for counts, units in ((found.words, reference.split()), (found.characters, reference)):
        assert counts.reference == len(units)
        assert 0 <= counts.substitutions + counts.deletions <= len(units)


def test_errors_are_counted_by_kind() -> None:
    found = count("one two three four", "one too three four five six")
    assert (found.words.substitutions, found.words.deletions, found.words.insertions) == (1, 0, 2)
    assert found.words.rate == pytest.approx(3 / 4)
    assert count("one two", "two").words.deletions == 1


def test_only_case_and_spaces_are_normalised() -> None:
    assert normalise("  It's\tTHE   End\n") == "it's the end"
    assert count("It's  the END", "it's the end").words.errors == 0
    assert count("its", "it's").words.errors == 1
    assert count("a b", "ab").characters.errors == 1


GERMAN = make_alphabet(" abcdefghijklmnopqrstuvwxyz\u00e4\u00f6\u00fc\u00df")
TURKISH = make_alphabet(" abc\u00e7defg\u011fh\u0131ijklmno\u00f6prs\u015ftu\u00fcvyz")


def test_lower_case_is_that_of_unicode() -> None:
    """Sharp s is not ss; dotted and dotless i are separate letters in Turkic languages only."""
    assert count("stra\u00dfe", "strasse").words.errors == 1
    assert count("GRO\u1e9eE", "gro\u00dfe", GERMAN).words.errors == 0
    assert normalise("\u0130STANBUL ISI", TURKISH) == "istanbul \u0131s\u0131"
    assert normalise("I\u0307I", TURKISH) == "i\u0131"
    assert count("DI\u015e", "di\u015f", TURKISH).words.errors == 1
    assert normalise("INDIGO", GERMAN) == "indigo"


def test_letters_that_an_alphabet_lacks_are_found() -> None:
    english = make_alphabet(" abcdefghijklmnopqrstuvwxyz'")
    assert unspelled("  Hello\tWORLD it's\n", english) == ()
    assert unspelled("Don\u2019t call 112 \u2014 1", english) == ("\u2019", "1", "2", "\u2014")
    assert unspelled("caf\u00e9 Stra\u00dfe", english) == ("\u00e9", "\u00df")
    assert unspelled("cafe\u0301", make_alphabet(" acef\u00e9")) == ("\u0301",)
    assert unspelled("\u0130", GERMAN) == ("\u0130",)
    assert unspelled("\u0130I\u0131i", TURKISH) == ()
    assert unspelled("a b", make_alphabet("ab")) == (" ",)
    assert unspelled("Hello", make_alphabet(" EHLO")) == ()
    assert unspelled("\u4e00 \u20ac", bytes_alphabet()) == ()
    said = ["1 or 1", "one", "call 1", "cafe\u0301", "", "1", "\u00df", "a"]
    assert unspelled_text(said, english) == (
        "'1' in 3 of 8 references, U+0301 COMBINING ACUTE ACCENT in 1 of 8 references, "
        "'\u00df' in 1 of 8 references"
    )
    assert unspelled_text(["one", ""], english) == ""


def test_the_rate_of_an_empty_reference_is_zero_or_one() -> None:
    assert count("", "").words.rate == 0
    assert count("", "two words").words.insertions == 2
    assert count("", "two words").words.rate == 1
    assert count("said", "").words.rate == 1


def test_the_interval_of_empty_references_is_their_rate() -> None:
    rates = error_rates(["", "", ""], ["five words that nobody said"] * 3)
    assert (rates.wer, rates.wer_interval.low, rates.wer_interval.high) == (1, 1, 1)
    assert error_rates([""], [""]).wer_interval.high == 0


def test_intervals_are_those_of_the_ratio_estimator() -> None:
    """For many utterances a ratio is normal: Cochran, Sampling Techniques (1977), 6.3."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 20, 300)
    wrong = rng.binomial(sizes, 0.2)
    said = [" ".join(["a"] * size) for size in sizes]
    heard = [
        " ".join(["b"] * bad + ["a"] * (size - bad)) for size, bad in zip(sizes, wrong, strict=True)
    ]
    found = error_rates(said, heard).wer_interval
    rate = wrong.sum() / sizes.sum()
    half = 1.96 * np.sqrt(((wrong - rate * sizes) ** 2).sum()) / sizes.sum()
    # An end of 1000 resamples varies by some 4 % of the width.
    assert found.low == pytest.approx(rate - half, abs=0.2 * half)
    assert found.high == pytest.approx(rate + half, abs=0.2 * half)


def test_a_set_is_pooled_not_averaged() -> None:
    rates = error_rates(["a", "b c d e f g h i j"], ["x", "b c d e f g h i j"])
    assert rates.wer == pytest.approx(1 / 10)


def test_intervals_hold_the_rate_and_shrink_with_more_data() -> None:
    few = error_rates(["one two three four"] * 5, ["one two three four"] * 4 + ["one too tree"])
    many = error_rates(
        ["one two three four"] * 500, (["one two three four"] * 4 + ["one too tree"]) * 100
    )
    assert few.wer == many.wer == pytest.approx(3 / 20)
    for rates in (few, many):
        assert rates.wer_interval.low <= rates.wer <= rates.wer_interval.high
    assert many.wer_interval.high - many.wer_interval.low < 0.06
    assert few.wer_interval.high - few.wer_interval.low > 0.3
    assert error_rates(["a b"] * 3, ["a b", "a", "b"]) == error_rates(
        ["a b"] * 3, ["a b", "a", "b"]
    )


@pytest.mark.parametrize(("references", "hypotheses"), [([], []), (["a"], [])])
def test_sets_that_do_not_match_are_refused(references: list[str], hypotheses: list[str]) -> None:
    with pytest.raises(AsrbuildError, match="cannot compare"):
        error_rates(references, hypotheses)
