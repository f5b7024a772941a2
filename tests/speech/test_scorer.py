"""Scorers: estimated, written and checked by asrbuild, read by ds-ctcdecoder's KenLM."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.rules import check_recipe
from asrbuild.builder.sources import settle
from asrbuild.cli import scorer as scorer_command
from asrbuild.speech.alphabet import Alphabet, bytes_alphabet, make_alphabet, read_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from asrbuild.speech.deepspeech_decoder.decoder import language_remarks
from asrbuild.speech.scorer import fit, package
from asrbuild.speech.scorer.build import write_scorer
from asrbuild.speech.scorer.fit import Spelling, check_scorer, compare_spelling, unknown_words
from asrbuild.speech.scorer.ngrams import BEGIN, NgramModel, characters, estimate, read_arpa
from asrbuild.speech.scorer.package import inspect_scorer, scorer_weights
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DEMO
from tests.speech.ctc_cases import ENGLISH, random_probabilities, spoken_bytes

LMPLZ = Path(__file__).parent / "lmplz"
TEXT = """the cat sat on the mat
the dog sat on the cat
a dog saw the cat and the mat
the cat's mat
yes
no no no""".splitlines()
SENTENCES = [line.split() for line in TEXT]


def _random_sentences(seed: int, count: int = 200) -> list[list[str]]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgh'", k=rng.randint(1, 9))) for _ in range(60)]
    return [
        [rng.choice(words[: rng.choice([3, 10, 60])]) for _ in range(rng.randint(1, 8))]
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorer") / "cats.scorer"
    write_scorer(estimate(SENTENCES, 3), ENGLISH, path, 0.75, 1.85)
    return path


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


def test_kneser_ney_by_hand() -> None:
    """Two sentences, bigrams, fallback discounts 0.5, 1 and 1.5."""
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


def test_the_estimate_is_lmplzs() -> None:
    """``lmplz/order3.arpa`` is what KenLM's ``lmplz -o 3 --discount_fallback`` made of the text."""
    lmplz = read_arpa(LMPLZ / "order3.arpa")
    ours = estimate(map(str.split, (LMPLZ / "text.txt").read_text().splitlines()), 3)
    for table, wanted in zip(ours.tables, lmplz.tables, strict=True):
        assert set(table) == set(wanted)
        for gram in set(table) - {(BEGIN,)}:
            assert table[gram] == pytest.approx(wanted[gram], abs=2e-6)
    assert ours.tables[0][(BEGIN,)][1] == pytest.approx(lmplz.tables[0][(BEGIN,)][1], abs=2e-6)


def test_the_demos_scorer_fits_the_demos_alphabet() -> None:
    info = check_scorer(DEMO / "prompts.scorer", read_alphabet(DEMO / "alphabet.txt"))
    assert (info.order, info.bytes_output) == (3, False)
    assert info.words > 500


KENLM = """
import json, sys
from ds_ctcdecoder import Alphabet, Scorer
folder = sys.argv[1]
scorer = Scorer(0.9, 1.2, folder + "/t.scorer", Alphabet(folder + "/alphabet.txt"))
queries = json.load(open(folder + "/queries.json"))
print(json.dumps([scorer.get_max_order()] + [
    [scorer.get_log_cond_prob([w.encode() for w in query], bos, False) for query in queries]
    for bos in (False, True)]))
"""


@needs_ds_ctcdecoder
@pytest.mark.parametrize("order", [2, 3, 4])
def test_kenlm_reads_the_probabilities_we_wrote(tmp_path: Path, order: int) -> None:
    sentences = _random_sentences(order)
    model = estimate(sentences, order)
    write_scorer(model, ENGLISH, tmp_path / "t.scorer")
    (tmp_path / "alphabet.txt").write_text(ENGLISH.file_text())
    rng = random.Random(order)
    queries = [rng.choices(model.words, k=rng.randint(1, order)) for _ in range(200)]
    queries += [words[:order] for words in sentences[:100]]
    (tmp_path / "queries.json").write_text(json.dumps(queries))
    done = subprocess.run(
        [ds_environment.decoder_python(), "-c", KENLM, tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    found_order, plain, at_begin = json.loads(done.stdout)
    assert found_order == order
    for query, inside, first in zip(queries, plain, at_begin, strict=True):
        *context, word = query
        assert inside == pytest.approx(model.log10(context, word) * math.log(10), abs=1e-4)
        assert first == pytest.approx(model.log10([BEGIN, *context], word) * math.log(10), abs=1e-4)


DIRECT = """
import json, sys
import numpy as np
from ds_ctcdecoder import Alphabet, Scorer, ctc_beam_search_decoder
folder, scorer_path, hot = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
alphabet = Alphabet(folder + "/alphabet.txt")
scorer = Scorer(0.75, 1.85, scorer_path, alphabet)
hot = {word.encode(): boost for word, boost in hot.items()}
print(json.dumps([
    ctc_beam_search_decoder(np.load("%s/%d.npy" % (folder, i)).astype("float64"), alphabet, 40,
                            1.0, 40, scorer, hot, 2)
    for i in range(200)]))
"""


@needs_ds_ctcdecoder
@pytest.mark.parametrize("hot_words", [{}, {"mat": 9.5, "yes": -3.0}])
def test_exactly_what_the_decoder_says_directly(
    tmp_path: Path, scorer: Path, hot_words: dict[str, float]
) -> None:
    cases = [random_probabilities(seed, 20 + seed % 40, sharpness=1.5) for seed in range(200)]
    (tmp_path / "alphabet.txt").write_text(ENGLISH.file_text())
    for index, rows in enumerate(cases):
        np.save(tmp_path / f"{index}.npy", rows)
    python = ds_environment.decoder_python()
    done = subprocess.run(
        [python, "-c", DIRECT, tmp_path, scorer, json.dumps(hot_words)],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = DecoderSettings(
        "ds_ctcdecoder", beam_width=40, scorer=Path(scorer.name), hot_words=hot_words
    )
    with open_decoder(wanted, ENGLISH, 20.0, scorer.parent) as decoder:
        found = decoder.decode_batch(cases, n_best=2)
    assert [[[h.confidence, h.text] for h in one] for one in found] == json.loads(done.stdout)
    said = {word for one in found for word in one[0].text.split()}
    assert said <= set(" ".join(TEXT).split())
    assert ("mat" in said) >= ("mat" in hot_words)


#: UTF-8 mode called directly: what the beam holds may end inside a character, so labels it is.
DIRECT_BYTES = """
import json, sys
import numpy as np
from ds_ctcdecoder import Scorer, UTF8Alphabet, swigwrapper
folder, count = sys.argv[1], int(sys.argv[2])
alphabet = UTF8Alphabet()
scorer = Scorer(0.75, 1.85, folder + "/c.scorer", alphabet)
found = [[scorer.get_log_cond_prob([c.encode() for c in text], False, False)
          for text in json.load(open(folder + "/queries.json"))]]
for used in (None, scorer):
    found.append([
        [[o.confidence, list(o.tokens), list(o.timesteps)]
         for o in swigwrapper.ctc_beam_search_decoder(
             np.load("%s/%d.npy" % (folder, i)).astype("float64"), alphabet, 40, 1.0, 40,
             used, {}, 3)]
        for i in range(count)])
print(json.dumps(found))
"""
CHARACTERS = ["für 漢字 und", "fünf 漢 ñ", "нет ñ 🙂 字", "für und 字", "нет"]


@needs_ds_ctcdecoder
def test_utf8_mode_is_what_the_decoder_says_directly(tmp_path: Path) -> None:
    """A scorer of characters of one to four bytes: KenLM reads it, and decoding is the same."""
    model = estimate(map(characters, CHARACTERS), 3)
    assert write_scorer(model, bytes_alphabet(), tmp_path / "c.scorer", 0.75, 1.85) == 14
    info = check_scorer(tmp_path / "c.scorer", bytes_alphabet())
    assert (info.words, info.bytes_output, info.space) == (14, True, None)
    cases = [spoken_bytes(text) for text in CHARACTERS]
    for seed, rows in enumerate(cases * 4):
        noise = random_probabilities(seed, len(rows), 256, sharpness=1.5)
        cases.append((0.6 * rows + 0.4 * noise).astype(np.float32))
    for index, rows in enumerate(cases):
        np.save(tmp_path / f"{index}.npy", rows)
    queries = [text[at : at + 3] for text in CHARACTERS for at in range(len(text) - 2)]
    (tmp_path / "queries.json").write_text(json.dumps(queries))
    done = subprocess.run(
        [ds_environment.decoder_python(), "-c", DIRECT_BYTES, tmp_path, str(len(cases))],
        capture_output=True,
        text=True,
        check=True,
    )
    scores, *direct = json.loads(done.stdout)
    for query, score in zip(queries, scores, strict=True):
        wanted = model.log10(query[:2], query[2]) * math.log(10)
        assert score == pytest.approx(wanted, abs=1e-4)
    decode = bytes_alphabet().decode
    for scorer, wanted in zip((None, tmp_path / "c.scorer"), direct, strict=True):
        told = DecoderSettings("ds_ctcdecoder", beam_width=40, scorer=scorer)
        with open_decoder(told, bytes_alphabet(), 20.0) as decoder:
            found = decoder.decode_batch(cases, n_best=3)
        assert [[[h.confidence, h.text] for h in one] for one in found] == [
            [[score, decode(tokens)] for score, tokens, _ in one] for one in wanted
        ]
    said = "".join(one[0].text for one in found)
    assert set(said) <= set("".join(CHARACTERS))
    assert [one[0].text for one in found[: len(CHARACTERS)]] == CHARACTERS


def test_the_characters_of_a_line() -> None:
    assert characters("ab  c") == ["a", "b", " ", "c"]
    assert characters("你 好") == ["你", "好"]
    assert characters(" ") == []


def test_hot_words_of_utf8_mode(tmp_path: Path) -> None:
    path = tmp_path / "c.scorer"
    write_scorer(estimate(map(characters, CHARACTERS), 2), bytes_alphabet(), path)
    wanted = DecoderSettings("ds_ctcdecoder", scorer=path, hot_words={"für": 3.0})
    with pytest.raises(AsrbuildError, match="the hot word 'für' is not a single character"):
        open_decoder(wanted, bytes_alphabet(), 20.0)


def test_inspection(scorer: Path) -> None:
    info = inspect_scorer(scorer)
    words = {word for line in SENTENCES for word in line}
    assert (info.order, info.words, info.bytes_output, info.space) == (3, len(words), False, 0)
    assert info.ngrams[0] == len(words) + 3
    assert info.kind == "probing"
    assert info.size == scorer.stat().st_size
    assert {ENGLISH.labels[label] for label in info.labels} == set("".join(words)) | {" "}
    assert scorer_weights(scorer) == (0.75, 1.85)
    assert check_scorer(scorer, ENGLISH) == info


def _swapped(one: str, other: str) -> Alphabet:
    labels = read_alphabet(DEMO / "alphabet.txt").labels
    return make_alphabet([{one: other, other: one}.get(label, label) for label in labels])


def test_how_many_words_an_alphabet_spells_otherwise() -> None:
    """Two labels that changed places show in every word that has one of them, and in no other."""
    path, right = DEMO / "prompts.scorer", read_alphabet(DEMO / "alphabet.txt")
    words = inspect_scorer(path).words
    assert compare_spelling(path, right) == Spelling(words, 0, 0, ())
    assert compare_spelling(path, right, whole=False).fits
    swapped = compare_spelling(path, _swapped("p", "q"))
    trie = package.read_scorer(path)[1]
    listed = {right.decode(word) for word in fit._every_word(trie)}
    assert len(listed) == words
    # "p" and "q" are words of their own, so each stays a word.
    table = str.maketrans("pq", "qp")
    assert swapped.otherwise == sum(word.translate(table) not in listed for word in listed)
    assert not compare_spelling(path, _swapped("p", "q"), whole=False).fits
    short = compare_spelling(path, make_alphabet(right.labels[:-2]))
    last = right.labels[-2:]
    assert short.unspelled == sum(any(c in word for c in last) for word in listed)
    assert short.otherwise == 0


def test_hot_words_that_a_scorer_does_not_know() -> None:
    path, alphabet = DEMO / "prompts.scorer", read_alphabet(DEMO / "alphabet.txt")
    found = unknown_words(path, ["five", "zebra", "fiv", "messages", "fives"], alphabet)
    assert found == ["zebra", "fiv", "fives"]
    hot = {"five": 2.0, "zebra": 3.0}
    told = DecoderSettings("ds_ctcdecoder", scorer=path, hot_words=hot)
    (remark,) = language_remarks(told, alphabet)
    assert remark.startswith("the hot word 'zebra' is not in the scorer")
    (remark,) = language_remarks(replace(told, hot_words={}), _swapped("p", "q"))
    assert "may be of another alphabet" in remark


def test_hot_words_of_a_scorer_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "c.scorer"
    write_scorer(estimate(map(characters, CHARACTERS), 2), bytes_alphabet(), path)
    assert unknown_words(path, ["\u6f22", "f", "\u4f60"], bytes_alphabet()) == ["\u4f60"]


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
    """Walks the automaton with nothing but struct, as OpenFst lays it out."""
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


def test_words_the_alphabet_cannot_spell(tmp_path: Path) -> None:
    model = estimate([["über", "the", "CAT"]], 2)
    assert write_scorer(model, ENGLISH, tmp_path / "t.scorer") == 1
    with pytest.raises(AsrbuildError, match="the alphabet spells none of the words"):
        write_scorer(estimate([["ÜBER"]], 2), ENGLISH, tmp_path / "none.scorer")
    with pytest.raises(AsrbuildError, match="no space between words"):
        write_scorer(model, make_alphabet("abc"), tmp_path / "none.scorer")
    with pytest.raises(AsrbuildError, match="is of characters, and the language model has 'über'"):
        write_scorer(model, bytes_alphabet(), tmp_path / "none.scorer")
    assert not (tmp_path / "none.scorer").exists()


def test_a_text_without_words() -> None:
    with pytest.raises(AsrbuildError, match="the text has no words"):
        estimate([[], []], 3)
    with pytest.raises(AsrbuildError, match="order 1"):
        estimate([["a"]], 1)


def _arpa(model: NgramModel) -> str:
    lines = ["\\data\\"] + [f"ngram {n}={len(t)}" for n, t in enumerate(model.tables, start=1)]
    for n, table in enumerate(model.tables, start=1):
        lines += ["", f"\\{n}-grams:"]
        tail = "\t{1:.9g}" if n < model.order else ""
        lines += [f"{w[0]:.9g}\t{' '.join(g)}" + tail.format(*w) for g, w in table.items()]
    return "\n".join([*lines, "", "\\end\\", ""])


def test_arpa_files(tmp_path: Path) -> None:
    model = estimate(SENTENCES, 3)
    path = tmp_path / "lm.arpa"
    path.write_text(_arpa(model))
    read = read_arpa(path)
    for table, wanted in zip(read.tables, model.tables, strict=True):
        assert table == {gram: pytest.approx(weights) for gram, weights in wanted.items()}
    path.write_text("".join(_arpa(model).splitlines(keepends=True)[:-6]))
    with pytest.raises(AsrbuildError, match="the ARPA file is not whole"):
        read_arpa(path)
    path.write_text("hello\n")
    with pytest.raises(AsrbuildError, match=r"this is a text .*, not an ARPA file"):
        read_arpa(path)
    path.write_text("\\data\\\nngram 1=1\n\n\\1-grams:\nx\ty\n")
    with pytest.raises(AsrbuildError, match="not an ARPA file"):
        read_arpa(path)


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
def test_a_scorer_for_another_alphabet(scorer: Path, name: str) -> None:
    alphabet: Alphabet
    alphabet, message = ALPHABETS[name]
    with pytest.raises(AsrbuildError, match=message) as caught:
        open_decoder(DecoderSettings("ds_ctcdecoder", scorer=scorer), alphabet, 20.0)
    assert caught.value.key == "decoder.scorer_path"


BROKEN = {
    "a folder": (lambda data: ..., "is a folder .*, not a scorer package"),
    "no number": (
        lambda data: data.replace(struct.pack("<d", 1.85), struct.pack("<d", math.nan)),
        "has no numbers as its alpha and beta",
    ),
    "missing": (lambda data: None, "no such scorer"),
    "empty": (lambda data: b"", "is an empty file"),
    "text": (lambda data: b"the cat sat on the mat\n" * 50, "is a text "),
    "arpa": (lambda data: _arpa(estimate(SENTENCES, 2)).encode(), "is an ARPA language model"),
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
def test_files_that_are_no_scorer(tmp_path: Path, scorer: Path, name: str) -> None:
    """Refused before the native decoder sees them: it would abort, or read past the end."""
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


def test_hot_words_must_be_spelled(scorer: Path) -> None:
    wanted = DecoderSettings("ds_ctcdecoder", scorer=scorer, hot_words={"Öl": 3.0})
    with pytest.raises(AsrbuildError, match="not in the alphabet"):
        open_decoder(wanted, ENGLISH, 20.0)


def test_building_and_inspecting_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()
    app.command("build")(scorer_command.build)
    app.command("inspect")(scorer_command.inspect_scorer)
    alphabet, text = tmp_path / "alphabet.txt", tmp_path / "text.txt"
    alphabet.write_text(ENGLISH.file_text())
    text.write_text("\n".join([*TEXT, "ÜBER"]))
    built = ["build", "--text", text, "--alphabet", alphabet, "-o", tmp_path / "t.scorer"]
    app([*map(str, built), "--lm-alpha", "0.5"], standalone_mode=False)
    assert "12 words" in capsys.readouterr().out.replace("1 words that", "")
    # An editor's byte order mark is no part of the first word; folders are made.
    text.write_text("\n".join([*TEXT, "ÜBER"]), encoding="utf-8-sig")
    again = [*map(str, built[:-1]), str(tmp_path / "new" / "t.scorer"), "--lm-alpha", "0.5"]
    app(again, standalone_mode=False)
    assert (tmp_path / "new" / "t.scorer").read_bytes() == (tmp_path / "t.scorer").read_bytes()
    text.write_text("the <s> cat\n")
    with pytest.raises(AsrbuildError, match="the text has <s> as a word"):
        app(again, standalone_mode=False)
    text.write_text("the cat\n")
    with pytest.raises(AsrbuildError, match="alpha is nan"):
        app([*again, "--lm-alpha", "nan"], standalone_mode=False)
    with pytest.raises(AsrbuildError, match="while writing the scorer"):
        app([*again[:-3], str(text / "t.scorer")], standalone_mode=False)
    capsys.readouterr()
    app(
        ["inspect", str(tmp_path / "t.scorer"), "--alphabet", str(alphabet), "--json"],
        standalone_mode=False,
    )
    shown = json.loads(capsys.readouterr().out)
    assert (shown["lm_alpha"], shown["order"], shown["fits"]) == (0.5, 3, True)
    with pytest.raises(AsrbuildError, match="give either --text or --arpa"):
        app(["build", "--alphabet", str(alphabet), "-o", "x"], standalone_mode=False)
    with pytest.raises(AsrbuildError, match="no such text"):
        app(
            ["build", "--text", "no", "--alphabet", str(alphabet), "-o", "x"], standalone_mode=False
        )


def test_inspection_says_what_an_alphabet_makes_of_the_words(
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


def test_what_a_decoder_does_not_read_is_said(tmp_path: Path) -> None:
    def remarks(*overrides: str) -> tuple[str, ...]:
        return check_recipe(settle(compose_recipe([*overrides]), tmp_path)[0])

    said = "decoder.beam_width=9 has no effect: the greedy decoder"
    assert any(said in remark for remark in remarks("decoder.beam_width=9"))
    for fine in (["decoder=beam", "decoder.beam_width=9"], []):
        assert not any("no effect" in remark for remark in remarks(*fine))
