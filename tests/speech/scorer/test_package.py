"""Scorer packages: writing, inspection and damage."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import bytes_alphabet, make_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.scorer.build import write_scorer
from asrbuild.speech.scorer.fit import check_scorer
from asrbuild.speech.scorer.ngrams import estimate
from asrbuild.speech.scorer.package import inspect_scorer, scorer_weights
from tests.speech.ctc_cases import ENGLISH
from tests.speech.scorer.texts import SENTENCES, arpa_text


def test_inspection_shows_the_facts_of_a_scorer(scorer: Path) -> None:
    info = inspect_scorer(scorer)
    words = {word for line in SENTENCES for word in line}
    assert (info.order, info.words, info.bytes_output, info.space) == (3, len(words), False, 0)
    assert info.ngrams[0] == len(words) + 3
    assert info.kind == "probing"
    assert info.size == scorer.stat().st_size
    assert {ENGLISH.labels[label] for label in info.labels} == set("".join(words)) | {" "}
    assert scorer_weights(scorer) == (0.75, 1.85)
    assert check_scorer(scorer, ENGLISH) == info


@settings(max_examples=40)
@given(words=st.sets(st.text("abcd", min_size=1, max_size=6), min_size=1, max_size=60))
def test_the_trie_holds_exactly_the_words(
    words: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trie") / "t.scorer"
    write_scorer(estimate([sorted(words)], 2), ENGLISH, path)
    assert inspect_scorer(path).words == len(words)
    assert _words_of(path) == words


def _words_of(path: Path) -> set[str]:
    """The words of the automaton, read with struct from OpenFst's layout."""
    data = path.read_bytes()
    at = data.rindex(struct.pack("<i", 2125659606)) + 4
    for _ in range(2):
        at += 4 + struct.unpack_from("<i", data, at)[0]
    _, _, _, start, states, _ = struct.unpack_from("<iiQqqq", data, at)
    at = -(-(at + 40) // 16) * 16
    arcs_at = -(-(at + 20 * states) // 16) * 16
    found: set[str] = set()
    waiting = [(start, "")]
    while waiting:
        state, text = waiting.pop()
        weight, first, count, _, _ = struct.unpack_from("<fIIII", data, at + 20 * state)
        if weight == 0:
            assert text.endswith(" ")
            found.add(text[:-1])
        arcs = [struct.unpack_from("<iifi", data, arcs_at + 16 * (first + n)) for n in range(count)]
        assert [arc[0] for arc in arcs] == sorted({arc[0] for arc in arcs})
        waiting += [(arc[3], text + ENGLISH.labels[arc[0] - 1]) for arc in arcs]
    return found


def test_the_same_text_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scorer(estimate(SENTENCES, 3), ENGLISH, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_words_that_the_alphabet_cannot_spell_are_left_out(tmp_path: Path) -> None:
    model = estimate([["über", "the", "CAT"]], 2)
    assert write_scorer(model, ENGLISH, tmp_path / "t.scorer") == 1
    with pytest.raises(AsrbuildError, match="the alphabet spells none of the words"):
        write_scorer(estimate([["ÜBER"]], 2), ENGLISH, tmp_path / "none.scorer")
    with pytest.raises(AsrbuildError, match="no space between words"):
        write_scorer(model, make_alphabet("abc"), tmp_path / "none.scorer")
    with pytest.raises(AsrbuildError, match="is of characters, and the language model has 'über'"):
        write_scorer(model, bytes_alphabet(), tmp_path / "none.scorer")
    assert not (tmp_path / "none.scorer").exists()


BROKEN = {
    "a folder": (lambda data: ..., "is a folder .*, not a scorer package"),
    "no number": (
        lambda data: data.replace(struct.pack("<d", 1.85), struct.pack("<d", math.nan)),
        "has no numbers as its alpha and beta",
    ),
    "missing": (lambda data: None, "no such scorer"),
    "empty": (lambda data: b"", "is an empty file"),
    "text": (lambda data: b"the cat sat on the mat\n" * 50, "is a text "),
    "arpa": (lambda data: arpa_text(estimate(SENTENCES, 2)).encode(), "is an ARPA language model"),
    "bare KenLM": (lambda data: data[: data.index(b"EIRT")], "ends without the word trie"),
    "cut in the trie": (lambda data: data[:-40], "is truncated in its word trie"),
    "cut in its header": (lambda data: data[: data.index(b"standard") + 4], "is truncated in"),
    "cut in the model": (lambda data: data[:900], "ends without the word trie"),
    "old version": (
        lambda data: data.replace(b"EIRT\x06", b"EIRT\x05"),
        "has trie version 5, not 6",
    ),
    "other automaton": (lambda data: data.replace(b"const", b"vecto"), "trie that is not a const"),
    "damaged arcs": (lambda data: data[:-4] + b"\xff\xff\xff\x7f", "has a damaged word trie"),
    "a loop": (lambda data: data[:-4] + bytes(4), "has a word trie with a loop"),
    "damaged header": (lambda data: data[:88] + b"\xff" + data[89:], "damaged KenLM header"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_files_that_are_not_scorers_are_refused(tmp_path: Path, scorer: Path, name: str) -> None:
    """The check comes before the native decoder, which would abort, or read past the end."""
    spoil, message = BROKEN[name]
    content = spoil(scorer.read_bytes())
    path = tmp_path / "bad.scorer"
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(AsrbuildError, match=message) as caught:
        open_decoder(DecoderSettings("ds_ctcdecoder", scorer=path), ENGLISH, 20.0)
    assert caught.value.file == str(path)
