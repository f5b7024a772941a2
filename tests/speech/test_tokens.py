"""Labels of models other than DeepSpeech's: files, text, decoding and rates."""

# ruff: noqa: RUF001 (the letters of the phonetic alphabet)

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech import beam
from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.letters import FoldedDecoder, alphabet_of
from asrbuild.speech.outputs import to_probabilities
from asrbuild.speech.rates import error_rates, unspelled
from asrbuild.speech.tokens import TokenKind, Vocabulary, make_vocabulary
from asrbuild.speech.vocabulary import read_vocabulary
from tests.speech.ctc_cases import ENGLISH, random_probabilities

PIECES = ("<blank>", "<unk>", "▁", "▁the", "▁qu", "ick", "s", "▁brown", "t", "h", "e")
PHONEMES = ("a", "ɪ", "aɪ", "h", "eɪ", "e", "v", "d͡ʒ", " ", "<wb>", "<unk>", "<blank>")
WAV2VEC2 = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "T": 6, "A": 7}


def _vocabulary(tmp_path: Path, text: str, kind: TokenKind, **how) -> Vocabulary:
    path = tmp_path / "tokens.txt"
    path.write_text(text, encoding="utf-8")
    return read_vocabulary(path, kind, **how)


def _rows(tokens: list[int], classes: int, blank: int) -> np.ndarray:
    """Probabilities that spell these tokens, each with a blank after it."""
    rows = np.full((2 * len(tokens), classes), 0.1 / (classes - 1), np.float32)
    rows[np.arange(0, len(rows), 2), tokens] = 0.9
    rows[1::2, blank] = 0.9
    return rows


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_pieces_with_the_blank_first_are_decoded(kind: str, tmp_path: Path) -> None:
    vocabulary = _vocabulary(tmp_path, "\n".join(PIECES), "pieces", blank="first", classes=11)
    assert (vocabulary.blank, vocabulary.silent, vocabulary.boundary) == (0, {1}, None)
    decoder = open_decoder(DecoderSettings(kind, beam_width=8), vocabulary, 40.0)
    tokens = [3, 4, 5, 1, 7, 2, 6]
    [found] = decoder.decode(_rows(tokens, 11, 0))
    assert found.text == "the quick brown s"
    assert [(w.text, w.start_s) for w in found.words] == [
        ("the", 0.0),
        ("quick", pytest.approx(0.08)),
        ("brown", pytest.approx(0.32)),
        ("s", pytest.approx(0.4)),
    ]
    stream = decoder.stream()
    assert stream.feed(_rows(tokens[:2], 11, 0)) == "the qu"
    assert vocabulary.encode("the quick s") == [3, 4, 5, 2, 6]
    with pytest.raises(AsrbuildError, match="no label of the model begins 'zebra'"):
        vocabulary.encode("the zebra")


def test_byte_pieces_write_any_text() -> None:
    labels = ("<blank>", "▁a", *(f"<0x{byte:02X}>" for byte in range(256)))
    vocabulary = make_vocabulary(labels, "pieces", 0)
    assert vocabulary.decode(vocabulary.encode("a ☃")) == "a ☃"
    assert unspelled("漢", vocabulary) == ()
    assert vocabulary.decode([2 + 0xE2]) == "\ufffd"


def test_phonemes_encode_by_the_longest_label(tmp_path: Path) -> None:
    vocabulary = _vocabulary(tmp_path, json.dumps(PHONEMES), "phonemes", blank="<blank>")
    assert (vocabulary.boundary, vocabulary.silent) == (9, {10})
    spelled = [3, 4, 6, 9, 2]
    assert vocabulary.encode("heɪv aɪ") == vocabulary.encode("h eɪ v | aɪ") == spelled
    assert vocabulary.decode([*spelled[:2], 10, *spelled[2:], 11]) == "h eɪ v | aɪ"
    [found] = open_decoder(DecoderSettings(), vocabulary, 20.0).decode(_rows(spelled, 12, 11))
    assert [word.text for word in found.words] == ["h eɪ v", "aɪ"]


def test_letters_of_wav2vec2_are_decoded(tmp_path: Path) -> None:
    vocabulary = _vocabulary(tmp_path, json.dumps(WAV2VEC2), "characters", blank="<pad>")
    assert (vocabulary.blank, vocabulary.boundary, vocabulary.silent) == (0, 4, {1, 2, 3})
    tokens = vocabulary.encode("TEA EAT")
    assert tokens == [6, 5, 7, 4, 5, 7, 6]
    rows = _rows([*tokens[:3], 3, *tokens[3:]], 8, 0)
    greedy = open_decoder(DecoderSettings(), vocabulary, 20.0)
    [found] = greedy.decode(rows)
    assert (found.text, [word.text for word in found.words]) == ("TEA EAT", ["TEA", "EAT"])
    # DeepSpeech's decoder takes the same rows, with the blank last and without silent labels.
    alphabet = alphabet_of(vocabulary)
    assert alphabet.labels == (" ", "E", "T", "A")
    folded = FoldedDecoder(open_decoder(DecoderSettings("beam"), alphabet, 20.0), vocabulary)
    assert folded.decode(rows)[0].text == folded.decode_batch([rows])[0][0].text == "TEA EAT"
    stream = folded.stream()
    assert stream.feed(rows) == stream.finish()[0].text == "TEA EAT"


def test_one_class_a_row_is_decoded() -> None:
    vocabulary = make_vocabulary(("silence", "up", "down"), "classes", None)
    decoder = open_decoder(DecoderSettings(), vocabulary, 1000.0)
    [found] = decoder.decode(np.array([[0.1, 0.7, 0.2]], np.float32))
    assert (found.text, found.words[0].confidence) == ("up", pytest.approx(0.7))
    rows = np.eye(3, dtype=np.float32)[[1, 1, 0, 2]]
    assert [(w.text, w.start_s) for w in decoder.decode(rows)[0].words] == [
        ("up", 0.0),
        ("silence", 2.0),
        ("down", 3.0),
    ]
    stream = decoder.stream()
    assert [stream.feed(rows[:1]), stream.feed(rows[1:])] == ["up", "up silence down"]
    assert vocabulary.encode("down") == [2]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("<blk> 0\na 1\n▁ 2\n", ("<blk>", "a", "▁")),
        ("b 1\n  2\na 0\n", ("a", "b", " ")),
        ("<unk>\t0\n▁a\t-2.5\nb\t-3\n", ("<unk>", "▁a", "b")),
        ("\ufeffa\r\n \r\nb\r\n", ("a", " ", "b")),
        ('{"b": 1, "a": 0, "c": 2}', ("a", "b", "c")),
        ("[\na\nb\n", ("[", "a", "b")),
    ],
)
def test_formats_of_labels_are_read(text: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    assert _vocabulary(tmp_path, text, "pieces", blank="last").labels == labels


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("", {}, "the vocabulary has no labels"),
        ('{"a": 0, "b": 2}', {}, "is no list of labels and no {label: class}"),
        ('{"a": 0,', {}, "is no JSON"),
        ("a\nb\n", {"classes": 4}, "the file has 2 labels, the model 4 classes"),
        ("a\nb\n", {"blank": "<pad>"}, "the vocabulary has no label '<pad>'"),
        ("a\nb\n", {"blank": 2}, "blank is class 2"),
        ("a\nb\n", {"boundary": "|"}, "the vocabulary has no label '|'"),
        ("a\nb\n", {"boundary": "b"}, "class 1 is both the blank and the word boundary"),
        ("a\nb\n", {"kind": "bytes"}, "tokens of the kind bytes have no vocabulary"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    text: str, how: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(AsrbuildError) as caught:
        _vocabulary(tmp_path, text, **{"kind": "characters"} | how)
    assert caught.value.message.startswith(message)
    assert caught.value.key.startswith("tokens.")


def test_a_blank_may_be_missing_from_the_file(tmp_path: Path) -> None:
    for blank, place in (("first", 0), ("last", 2), (1, 1)):
        vocabulary = _vocabulary(tmp_path, "a\nb\n", "characters", blank=blank, classes=3)
        assert (vocabulary.blank, vocabulary.labels[place]) == (place, "<blank>")


@pytest.mark.parametrize(
    ("decoder", "kind", "message"),
    [
        ("beam", "classes", "the beam decoder joins labels over time"),
        ("ds_ctcdecoder", "pieces", "ds-ctcdecoder and its scorers read characters"),
        ("ds_ctcdecoder", "phonemes", "ds-ctcdecoder and its scorers read characters"),
    ],
)
def test_decoders_that_cannot_write_the_labels_are_refused(
    decoder: str, kind, message: str
) -> None:
    vocabulary = make_vocabulary(("a", "b"), kind, None if kind == "classes" else 1)
    with pytest.raises(AsrbuildError, match=message) as caught:
        open_decoder(DecoderSettings(decoder), vocabulary, 20.0)
    assert caught.value.fix
    if kind != "classes":
        with pytest.raises(AsrbuildError, match="scorers are of characters"):
            alphabet_of(vocabulary)


def test_outputs_of_each_kind_become_the_same_probabilities() -> None:
    rows = random_probabilities(0, 20, 5)
    logs = np.log(rows)
    for output, given_ in (
        ("probabilities", rows),
        ("log_probabilities", logs),
        ("logits", 3.0 + logs),
        ("logits", np.float16(logs)),
        ("log_probabilities", np.float16(logs)),
    ):
        np.testing.assert_allclose(to_probabilities(given_, output), rows, atol=2e-3)
    assert to_probabilities(logs[:0], "logits").shape == (0, 5)
    with pytest.raises(AsrbuildError, match="are not log probabilities"):
        to_probabilities(3.0 + logs, "log_probabilities")


def test_one_number_a_row_is_the_probability_of_a_class() -> None:
    chances = np.array([[0.0], [0.2], [1.0]], np.float32)
    wanted = np.concatenate([chances, 1 - chances], axis=1)
    np.testing.assert_array_equal(to_probabilities(chances, "probabilities"), wanted)
    with np.errstate(divide="ignore"):
        logs = np.log(chances)
        logits = np.clip(logs - np.log(1 - chances), -100, 100)
    np.testing.assert_allclose(to_probabilities(logs, "log_probabilities"), wanted, atol=1e-6)
    np.testing.assert_allclose(to_probabilities(logits, "logits"), wanted, atol=1e-6)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(5, 400),
    width=st.integers(1, 40),
    sharpness=st.floats(0.5, 5),
)
def test_a_beam_of_many_labels_drops_only_negligible_ones(
    seed: int, classes: int, width: int, sharpness: float
) -> None:
    rows = random_probabilities(seed, 15, classes, sharpness).astype(np.float64)
    blank = seed % classes
    rows[:, [blank, classes - 1]] = rows[:, [classes - 1, blank]]
    found = []
    for table in (10_000, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(beam, "WHOLE_TABLE", table)
            search = beam.PrefixSearch(classes, DecoderSettings("beam", width), blank)
            search.feed(rows)
            found.append(search.best(width))
    assert [(p.tokens, p.steps) for p in found[0]] == [(p.tokens, p.steps) for p in found[1]]
    np.testing.assert_allclose(
        [p.score for p in found[0]], [p.score for p in found[1]], rtol=0, atol=1e-12
    )


def test_the_blank_may_be_any_class() -> None:
    rows = random_probabilities(5, 40)
    last = open_decoder(DecoderSettings("beam", 30), ENGLISH, 20.0).decode(rows, 5)
    labels = ("<blank>", *ENGLISH.labels)
    first = make_vocabulary(labels, "characters", 0, boundary=1)
    moved = np.concatenate([rows[:, -1:], rows[:, :-1]], axis=1)
    found = open_decoder(DecoderSettings("beam", 30), first, 20.0).decode(moved, 5)
    assert [(h.text, h.words) for h in found] == [(h.text, h.words) for h in last]


def test_five_thousand_labels_take_less_than_5_ms_a_row() -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(5001, 0.02), 60)
    search = beam.PrefixSearch(5001, DecoderSettings("beam"), 0)
    begun = time.process_time()
    search.feed(rows)
    assert (time.process_time() - begun) / len(rows) < 5e-3


def test_error_rates_of_phonemes_are_counted() -> None:
    vocabulary = make_vocabulary(PHONEMES, "phonemes", 11, 9, [10])
    references, found = ["heɪv aɪ", "h | aɪ"], ["h eɪ v | a ɪ", "h | aɪ"]
    rates = error_rates(references, found, tokens=vocabulary)
    assert rates.unit == "phonemes"
    assert (rates.characters.errors, rates.characters.reference) == (2, 6)
    assert (rates.words.errors, rates.words.reference) == (1, 4)
    assert rates.utterances[0].expected == "h eɪ v | aɪ"
    assert unspelled("heɪz", vocabulary) == ("z",)
    assert unspelled("heɪv | aɪ", vocabulary) == ()


def test_error_rates_of_pieces_and_letters_are_counted() -> None:
    pieces = make_vocabulary(PIECES, "pieces", 0, silent=[1])
    assert unspelled("the brown Quick", pieces) == ()
    assert unspelled("the zoo", pieces) == ("z",)
    letters = make_vocabulary(tuple(WAV2VEC2), "characters", 0, 4, [1, 2, 3])
    assert unspelled("eat tea", letters) == ()
    assert error_rates(["eat tea"], ["EAT TEA"], tokens=letters).wer == 0
    assert make_alphabet("ab").words([0, 1]) == [range(2)]
