"""Whether a scorer fits an alphabet, a decoder and hot words; the commands."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.rules import check_recipe
from asrbuild.builder.sources import settle
from asrbuild.cli import scorer as scorer_command
from asrbuild.speech.alphabet import Alphabet, bytes_alphabet, make_alphabet, read_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder.decoder import language_remarks
from asrbuild.speech.scorer import fit, package
from asrbuild.speech.scorer.build import write_scorer
from asrbuild.speech.scorer.fit import Spelling, check_scorer, compare_spelling, unknown_words
from asrbuild.speech.scorer.ngrams import characters, estimate
from asrbuild.speech.scorer.package import inspect_scorer
from tests.command import run, values
from tests.paths import DEMO
from tests.speech.ctc_cases import ENGLISH
from tests.speech.scorer.texts import CHARACTERS, TEXT


def test_the_demos_scorer_fits_the_demos_alphabet() -> None:
    info = check_scorer(DEMO / "prompts.scorer", read_alphabet(DEMO / "alphabet.txt"))
    assert (info.order, info.bytes_output) == (3, False)
    assert info.words > 500


def test_a_hot_word_of_several_characters_is_refused_in_utf_8_mode(tmp_path: Path) -> None:
    path = tmp_path / "c.scorer"
    write_scorer(estimate(map(characters, CHARACTERS), 2), bytes_alphabet(), path)
    wanted = DecoderSettings("ds_ctcdecoder", scorer=path, hot_words={"für": 3.0})
    with pytest.raises(AsrbuildError, match="the hot word 'für' is not a single character"):
        open_decoder(wanted, bytes_alphabet(), 20.0)


def _swapped(one: str, other: str) -> Alphabet:
    labels = read_alphabet(DEMO / "alphabet.txt").labels
    return make_alphabet([{one: other, other: one}.get(label, label) for label in labels])


def test_words_that_an_alphabet_spells_differently_are_counted() -> None:
    """Two exchanged labels change every word that has one of them, and no other."""
    path, right = DEMO / "prompts.scorer", read_alphabet(DEMO / "alphabet.txt")
    words = inspect_scorer(path).words
    assert compare_spelling(path, right) == Spelling(words, 0, 0, ())
    assert compare_spelling(path, right, whole=False).fits
    swapped = compare_spelling(path, _swapped("p", "q"))
    trie = package.read_scorer(path)[1]
    listed = {right.decode(word) for word in fit._every_word(trie)}
    assert len(listed) == words
    # "p" and "q" are words themselves, so each stays a word.
    table = str.maketrans("pq", "qp")
    assert swapped.otherwise == sum(word.translate(table) not in listed for word in listed)
    assert not compare_spelling(path, _swapped("p", "q"), whole=False).fits
    short = compare_spelling(path, make_alphabet(right.labels[:-2]))
    last = right.labels[-2:]
    assert short.unspelled == sum(any(c in word for c in last) for word in listed)
    assert short.otherwise == 0


def test_hot_words_that_a_scorer_lacks_are_reported() -> None:
    path, alphabet = DEMO / "prompts.scorer", read_alphabet(DEMO / "alphabet.txt")
    found = unknown_words(path, ["five", "zebra", "fiv", "messages", "fives"], alphabet)
    assert found == ["zebra", "fiv", "fives"]
    hot = {"five": 2.0, "zebra": 3.0}
    told = DecoderSettings("ds_ctcdecoder", scorer=path, hot_words=hot)
    (remark,) = language_remarks(told, alphabet)
    assert remark.startswith("the hot word 'zebra' is not in the scorer")
    (remark,) = language_remarks(replace(told, hot_words={}), _swapped("p", "q"))
    assert "may be of another alphabet" in remark


def test_hot_words_that_a_scorer_of_characters_lacks_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "c.scorer"
    write_scorer(estimate(map(characters, CHARACTERS), 2), bytes_alphabet(), path)
    assert unknown_words(path, ["\u6f22", "f", "\u4f60"], bytes_alphabet()) == ["\u4f60"]


ALPHABETS = {
    "another order": (make_alphabet("abcdefghijklmnopqrstuvwxyz' "), "its words end with label 0"),
    "labels in another order": (
        make_alphabet(" zyxwvutsrqponmlkjihgfedcba'"),
        "which its language model does not know",
    ),
    "a smaller one": (make_alphabet(" abcdefgh"), "it spells words with label 27"),
    "bytes": (bytes_alphabet(), "made for characters, the model writes UTF-8 bytes"),
}


@pytest.mark.parametrize("name", list(ALPHABETS))
def test_a_scorer_for_another_alphabet_is_refused(scorer: Path, name: str) -> None:
    alphabet: Alphabet
    alphabet, message = ALPHABETS[name]
    with pytest.raises(AsrbuildError, match=message) as caught:
        open_decoder(DecoderSettings("ds_ctcdecoder", scorer=scorer), alphabet, 20.0)
    assert caught.value.key == "decoder.scorer_path"


def test_hot_words_must_be_spelled(scorer: Path) -> None:
    wanted = DecoderSettings("ds_ctcdecoder", scorer=scorer, hot_words={"Öl": 3.0})
    with pytest.raises(AsrbuildError, match="not in the alphabet"):
        open_decoder(wanted, ENGLISH, 20.0)


def test_the_commands_build_and_inspect_a_scorer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alphabet, text = tmp_path / "alphabet.txt", tmp_path / "text.txt"
    alphabet.write_text(ENGLISH.file_text())
    text.write_text("\n".join([*TEXT, "ÜBER"]))
    build = partial(run, "scorer", "build", "--alphabet", alphabet)
    given = ("--text", text, "--lm-alpha", "0.5", "-o")
    assert build(*given, tmp_path / "t.scorer") == 0
    assert "12 words" in capsys.readouterr().out.replace("1 words that", "")
    # An editor's byte order mark is not a part of the first word; folders are made.
    text.write_text("\n".join([*TEXT, "ÜBER"]), encoding="utf-8-sig")
    again = tmp_path / "new" / "t.scorer"
    assert build(*given, again) == 0
    assert again.read_bytes() == (tmp_path / "t.scorer").read_bytes()
    text.write_text("the <s> cat\n")
    with pytest.raises(AsrbuildError, match="the text has <s> as a word"):
        build(*given, again)
    text.write_text("the cat\n")
    with pytest.raises(AsrbuildError, match="alpha is nan"):
        build(*given, again, "--lm-alpha", "nan")
    with pytest.raises(AsrbuildError, match="while writing the scorer"):
        build(*given, text / "t.scorer")
    shown = values("inspect", "scorer", tmp_path / "t.scorer", "--alphabet", alphabet)
    assert (shown["lm_alpha"], shown["order"], shown["fits"]) == (0.5, 3, True)
    with pytest.raises(AsrbuildError, match="give either --text or --arpa"):
        build("-o", "x")
    with pytest.raises(AsrbuildError, match="no such text"):
        build("--text", "no", "-o", "x")


def test_inspection_counts_the_words_that_an_alphabet_spells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "swapped.txt").write_text(_swapped("p", "q").file_text())
    for name, file, text in (
        ("right", DEMO / "alphabet.txt", "it spells all 578 words"),
        (
            "swapped",
            tmp_path / "swapped.txt",
            "of 578 words, and spells 73 otherwise",
        ),
    ):
        scorer_command.inspect_scorer(str(DEMO / "prompts.scorer"), file)
        assert text in capsys.readouterr().out
        scorer_command.inspect_scorer(str(DEMO / "prompts.scorer"), file, as_json=True)
        found = json.loads(capsys.readouterr().out)
        assert (found["fits"], found["spelling"]["otherwise"]) == {
            "right": (True, 0),
            "swapped": (False, 73),
        }[name]


def test_keys_without_effect_on_the_decoder_are_noted(tmp_path: Path) -> None:
    def remarks(*overrides: str) -> tuple[str, ...]:
        return check_recipe(settle(compose_recipe([*overrides]), tmp_path)[0])

    said = "decoder.beam_width=9 has no effect: the greedy decoder"
    assert any(said in remark for remark in remarks("decoder.beam_width=9"))
    for fine in (["decoder=beam", "decoder.beam_width=9"], []):
        assert not any("no effect" in remark for remark in remarks(*fine))
