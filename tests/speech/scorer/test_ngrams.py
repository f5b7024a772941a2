"""Language models: estimation, compared with KenLM's lmplz, and ARPA files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.scorer.ngrams import BEGIN, characters, estimate, read_arpa
from tests.speech.scorer.texts import SENTENCES, arpa_text

LMPLZ = Path(__file__).parents[1] / "lmplz"


@settings(max_examples=30)
@given(
    sentences=st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=30),
    order=st.integers(2, 5),
    context=st.lists(st.sampled_from("abcdefz"), max_size=5),
)
def test_probabilities_add_up_to_one(
    sentences: list[list[str]], order: int, context: list[str]
) -> None:
    if not any(sentences):
        return
    model = estimate(sentences, order)
    words = [gram[0] for gram in model.tables[0] if gram[0] != BEGIN]
    for history in ([], [BEGIN], context, [BEGIN, *context]):
        assert sum(10 ** model.log10(history, word) for word in words) == pytest.approx(1)


def test_estimates_equal_those_of_kneser_ney_by_hand() -> None:
    """The text has two sentences; bigrams, with the fallback discounts 0.5, 1 and 1.5."""
    model = estimate([["a", "b"], ["a"]], 2)
    # Left neighbours: a has <s>; b has a; </s> has b and a. So 1, 1 and 2 of 4.
    mass = (0.5 + 0.5 + 1.0) / 4
    a = 0.5 / 4 + mass / 4
    b, end = a, 1.0 / 4 + mass / 4
    assert 10 ** model.log10([], "a") == pytest.approx(a)
    # After <s>: a twice, discount 1. After a: b once and </s> once, discount 0.5 each.
    assert 10 ** model.log10([BEGIN], "a") == pytest.approx(1 / 2 + 1 / 2 * a)
    assert 10 ** model.log10(["a"], "b") == pytest.approx(0.5 / 2 + 1 / 2 * b)
    assert 10 ** model.log10(["a"], "</s>") == pytest.approx(0.5 / 2 + 1 / 2 * end)
    assert 10 ** model.log10(["b"], "a") == pytest.approx(0.5 * a)


def test_the_estimate_equals_that_of_lmplz() -> None:
    """KenLM's ``lmplz -o 3 --discount_fallback`` made ``lmplz/order3.arpa`` from the text."""
    lmplz = read_arpa(LMPLZ / "order3.arpa")
    ours = estimate(map(str.split, (LMPLZ / "text.txt").read_text().splitlines()), 3)
    for table, wanted in zip(ours.tables, lmplz.tables, strict=True):
        assert set(table) == set(wanted)
        for gram in set(table) - {(BEGIN,)}:
            assert table[gram] == pytest.approx(wanted[gram], abs=2e-6)
    assert ours.tables[0][(BEGIN,)][1] == pytest.approx(lmplz.tables[0][(BEGIN,)][1], abs=2e-6)


def test_a_line_is_split_into_characters() -> None:
    assert characters("ab  c") == ["a", "b", " ", "c"]
    assert characters("你 好") == ["你", "好"]
    assert characters(" ") == []


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(AsrbuildError, match="the text has no words"):
        estimate([[], []], 3)
    with pytest.raises(AsrbuildError, match="order 1"):
        estimate([["a"]], 1)


def test_arpa_files_are_read(tmp_path: Path) -> None:
    model = estimate(SENTENCES, 3)
    path = tmp_path / "lm.arpa"
    path.write_text(arpa_text(model))
    read = read_arpa(path)
    for table, wanted in zip(read.tables, model.tables, strict=True):
        assert table == {gram: pytest.approx(weights) for gram, weights in wanted.items()}
    path.write_text("".join(arpa_text(model).splitlines(keepends=True)[:-6]))
    with pytest.raises(AsrbuildError, match="the ARPA file is not whole"):
        read_arpa(path)
    path.write_text("hello\n")
    with pytest.raises(AsrbuildError, match=r"this is a text .*, not an ARPA file"):
        read_arpa(path)
    path.write_text("\\data\\\nngram 1=1\n\n\\1-grams:\nx\ty\n")
    with pytest.raises(AsrbuildError, match="not an ARPA file"):
        read_arpa(path)
