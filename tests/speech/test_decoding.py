"""Greedy and beam search, compared with an enumeration of alignments and with TensorFlow."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech import beam
from asrbuild.speech.alphabet import bytes_alphabet
from asrbuild.speech.decoder import Hypothesis
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from tests.speech.ctc_cases import ENGLISH, SMALL, random_probabilities, spoken, spoken_bytes


def _all_texts(probabilities: np.ndarray) -> dict[tuple[int, ...], float]:
    """Probability of every label sequence, summed over all alignments."""
    steps, classes = probabilities.shape
    totals: dict[tuple[int, ...], float] = defaultdict(float)
    for alignment in itertools.product(range(classes), repeat=steps):
        merged = [label for label, _ in itertools.groupby(alignment)]
        labels = tuple(label for label in merged if label != classes - 1)
        totals[labels] += float(np.prod(probabilities[np.arange(steps), alignment]))
    return totals


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 5), sharpness=st.floats(0.1, 4))
def test_a_wide_beam_is_the_sum_over_all_alignments(
    seed: int, steps: int, sharpness: float
) -> None:
    probabilities = random_probabilities(seed, steps, 4, sharpness)
    # As in ds-ctcdecoder, certain silence at the beginning does not count.
    started = np.flatnonzero(probabilities[:, -1] < 0.999)
    heard = probabilities[started[0] if len(started) else steps :]
    truth = sorted(_all_texts(heard).items(), key=lambda item: -item[1])
    found = open_decoder(DecoderSettings("beam", beam_width=5_000), SMALL, 20.0).decode(
        probabilities, n_best=8
    )
    wanted = truth[:8]
    np.testing.assert_allclose(
        [h.confidence for h in found], np.log([p for _, p in wanted])[: len(found)], atol=1e-5
    )
    assert len(found) == min(8, len(truth))
    exact = {SMALL.decode(labels): np.log(chance) for labels, chance in truth}
    for hypothesis in found:
        assert hypothesis.confidence == pytest.approx(exact[hypothesis.text], abs=1e-5)


@pytest.fixture(scope="module")
def tf() -> ModuleType:
    return pytest.importorskip("tensorflow")


def _tf_text(decoded) -> list[int]:
    return decoded[0].values.numpy().tolist()


def test_tensorflow_gives_the_same_text(tf: ModuleType) -> None:
    greedy = open_decoder(DecoderSettings("greedy"), ENGLISH, 20.0)
    beams = open_decoder(DecoderSettings("beam", beam_width=200), ENGLISH, 20.0)
    for seed in range(60):
        probabilities = random_probabilities(seed, 5 + seed % 40, sharpness=2.0 + seed % 3)
        logits = np.log(probabilities)[:, None, :]
        lengths = [len(probabilities)]
        decoded, _ = tf.nn.ctc_greedy_decoder(logits, lengths, merge_repeated=True)
        assert greedy.decode(probabilities)[0].text == ENGLISH.decode(_tf_text(decoded))
        decoded, score = tf.nn.ctc_beam_search_decoder(logits, lengths, beam_width=200)
        ours = beams.decode(probabilities)[0]
        assert ours.text == ENGLISH.decode(_tf_text(decoded))
        assert ours.confidence == pytest.approx(float(score[0, 0]), abs=2e-2)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_words_have_times_and_confidence(kind: str) -> None:
    probabilities = spoken("we all  go ")
    [found] = open_decoder(DecoderSettings(kind), ENGLISH, 20.0).decode(probabilities)
    assert found.text == "we all  go "
    assert [(w.text, w.start_s, w.end_s) for w in found.words] == [
        ("we", 0.0, pytest.approx(0.06)),
        ("all", pytest.approx(0.12), pytest.approx(0.22)),
        ("go", pytest.approx(0.32), pytest.approx(0.38)),
    ]
    assert [w.confidence for w in found.words] == pytest.approx([0.9] * 3, abs=1e-6)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
@pytest.mark.parametrize("steps", [0, 1, 40])
def test_silence_is_an_empty_text(kind: str, steps: int) -> None:
    probabilities = np.zeros((steps, 29), np.float32)
    probabilities[:, 28] = 1.0
    [found] = open_decoder(DecoderSettings(kind), ENGLISH, 20.0).decode(probabilities)
    assert found == Hypothesis("", 0.0, ())


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    kind=st.sampled_from(["greedy", "beam"]),
)
def test_streaming_gives_the_text_of_a_single_call(seed: int, cuts: list[int], kind: str) -> None:
    probabilities = random_probabilities(seed, 60)
    decoder = open_decoder(DecoderSettings(kind, beam_width=20), ENGLISH, 20.0)
    stream, at, partial = decoder.stream(), 0, ""
    for cut in [*sorted(cuts), 60]:
        partial = stream.feed(probabilities[at:cut])
        at = max(at, cut)
    final = stream.finish(5)
    assert final == decoder.decode(probabilities, 5)
    assert partial == final[0].text


def test_partial_results_grow_with_the_utterance() -> None:
    probabilities = spoken("all right")
    for kind in ("greedy", "beam"):
        stream = open_decoder(DecoderSettings(kind), ENGLISH, 20.0).stream()
        assert [stream.feed(probabilities[at : at + 6]) for at in (0, 6, 12)] == [
            "all",
            "all ri",
            "all right",
        ]


def test_n_best_is_sorted_and_has_no_text_twice() -> None:
    found = open_decoder(DecoderSettings("beam", 50), ENGLISH, 20.0).decode(
        random_probabilities(3, 30), n_best=20
    )
    assert len({h.text for h in found}) == 20
    assert [h.confidence for h in found] == sorted((h.confidence for h in found), reverse=True)


def test_removing_dead_prefixes_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = random_probabilities(4, 200)
    decoder = open_decoder(DecoderSettings("beam", 30), ENGLISH, 20.0)
    whole = decoder.decode(probabilities, 10)
    monkeypatch.setattr(beam, "COMPACT_AT", 100)
    search = beam.PrefixSearch(29, DecoderSettings("beam", 30))
    largest = 0
    for row in probabilities:
        search.feed(row[None])
        largest = max(largest, search._labels.count)
    assert largest < 3_000  # 200 steps make about 6,000 prefixes
    assert decoder.decode(probabilities, 10) == whole


def test_cutoffs_prune_labels() -> None:
    probabilities = np.array([[0.05, 0.25, 0.3, 0.4]] * 4, np.float32)

    def labels(**cut: float) -> set[str]:
        found = open_decoder(DecoderSettings("beam", 999, **cut), SMALL, 20.0).decode(
            probabilities, 999
        )
        return set("".join(h.text for h in found))

    assert labels() == set("ab ")
    assert labels(cutoff_prob=0.9) == set("b ")
    assert labels(cutoff_prob=0.5) == set(" ")
    assert labels(cutoff_prob=0.9999, cutoff_top_n=2) == set(" ")
    # ds-ctcdecoder's rule: without cutoff_prob, cutoff_top_n cuts nothing.
    assert labels(cutoff_top_n=1) == set("ab ")


def test_bytes_output_gives_the_encoded_text() -> None:
    alphabet = bytes_alphabet()
    for kind in ("greedy", "beam"):
        decoder = open_decoder(DecoderSettings(kind, beam_width=50), alphabet, 20.0)
        [found] = decoder.decode(spoken_bytes("für 漢字"))
        assert found.text == "für 漢字"
        assert [word.text for word in found.words] == ["für", "漢字"]


BAD_SETTINGS = [
    (DecoderSettings("best"), "decoder.type", "no decoder is called 'best'"),
    (DecoderSettings("beam", beam_width=0), "decoder.beam_width", "beam_width is 0"),
    (DecoderSettings("beam", cutoff_prob=0.0), "decoder.cutoff_prob", "cutoff_prob is 0.0"),
    (DecoderSettings("beam", cutoff_prob=1.1), "decoder.cutoff_prob", "cutoff_prob is 1.1"),
    (DecoderSettings("beam", cutoff_top_n=0), "decoder.cutoff_top_n", "cutoff_top_n is 0"),
    (DecoderSettings("beam", scorer="x.scorer"), "decoder.scorer_path", "the beam decoder uses no"),
    (DecoderSettings("greedy", hot_words={"a": 1.0}), "decoder.hot_words", "the greedy decoder"),
    (DecoderSettings("ds_ctcdecoder", hot_words={"a": 1.0}), "decoder.hot_words", "hot words need"),
    # With these settings the library gives wrong texts, or crashes.
    (DecoderSettings("ds_ctcdecoder", scorer="x", lm_alpha=math.nan), "decoder.lm_alpha", "lm_a"),
    (DecoderSettings("ds_ctcdecoder", scorer="x", lm_beta=-math.inf), "decoder.lm_beta", "lm_b"),
    (
        DecoderSettings("ds_ctcdecoder", scorer="x", hot_words={"a": 1e300}),
        "decoder.hot_words.a",
        "hot_words.a is 1e+300",
    ),
]


@pytest.mark.parametrize(("wanted", "key", "message"), BAD_SETTINGS)
def test_impossible_settings_are_refused(wanted: DecoderSettings, key: str, message: str) -> None:
    with pytest.raises(AsrbuildError) as caught:
        open_decoder(wanted, ENGLISH, 20.0)
    assert caught.value.key == key
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(29, np.float32), "probabilities must be floats"),
        (np.zeros((3, 29), np.int32), "probabilities must be floats"),
        (np.full((3, 30), 1 / 30, np.float32), "the alphabet has 28 labels, the model 30 classes"),
        (np.full((3, 29), np.nan, np.float32), "not finite numbers"),
        (np.zeros((3, 29), np.float32), "these are not probabilities"),
        (np.eye(29, dtype=np.float32) * 9 - 4, "these are not probabilities"),
    ],
)
@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_inputs_that_are_not_probabilities_are_refused(
    kind: str, bad: np.ndarray, message: str
) -> None:
    with pytest.raises(AsrbuildError, match=message):
        open_decoder(DecoderSettings(kind), ENGLISH, 20.0).decode(bad)
