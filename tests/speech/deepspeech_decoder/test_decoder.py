"""ds-ctcdecoder through the interface of decoders, compared with direct calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import bytes_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from asrbuild.speech.deepspeech_decoder.decoder import DeepSpeechDecoder
from tests.marks import needs_ds_ctcdecoder
from tests.speech.ctc_cases import ENGLISH, random_probabilities, spoken, spoken_bytes

pytestmark = needs_ds_ctcdecoder

#: A direct use of the package, without asrbuild.
DIRECT = """
import json, sys
import numpy as np
from ds_ctcdecoder import Alphabet, ctc_beam_search_decoder
folder, beam, cutoff_prob, cutoff_top_n, n_best = sys.argv[1:6]
alphabet = Alphabet(folder + "/alphabet.txt")
print(json.dumps([
    ctc_beam_search_decoder(np.load("%s/%d.npy" % (folder, i)).astype("float64"), alphabet,
                            int(beam), float(cutoff_prob), int(cutoff_top_n), None, {}, int(n_best))
    for i in range(int(sys.argv[6]))]))
"""


def _directly(folder: Path, cases: list[np.ndarray], settings: DecoderSettings, n_best: int):
    folder.mkdir(exist_ok=True)
    (folder / "alphabet.txt").write_text(ENGLISH.file_text())
    for index, rows in enumerate(cases):
        np.save(folder / f"{index}.npy", rows)
    arguments = [
        settings.beam_width,
        settings.cutoff_prob,
        settings.cutoff_top_n,
        n_best,
        len(cases),
    ]
    done = subprocess.run(
        [ds_environment.decoder_python(), "-c", DIRECT, folder, *map(str, arguments)],
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def _case(seed: int) -> np.ndarray:
    return random_probabilities(seed, 10 + seed % 50, sharpness=1 + seed % 4)


CASES = [_case(seed) for seed in range(50)]


@pytest.fixture(scope="module")
def genuine() -> Iterator[DeepSpeechDecoder]:
    settings = DecoderSettings("ds_ctcdecoder", beam_width=50)
    with DeepSpeechDecoder(settings, ENGLISH, 0.02, processes=2) as decoder:
        yield decoder


@pytest.mark.parametrize(
    "told",
    [
        DecoderSettings("ds_ctcdecoder", beam_width=50),
        DecoderSettings("ds_ctcdecoder", beam_width=8),
        DecoderSettings("ds_ctcdecoder", beam_width=20, cutoff_prob=0.95),
        DecoderSettings("ds_ctcdecoder", beam_width=20, cutoff_prob=0.999, cutoff_top_n=6),
    ],
    ids=str,
)
def test_results_equal_those_of_direct_calls(tmp_path: Path, told: DecoderSettings) -> None:
    cases = [_case(seed) for seed in range(200)] if told.beam_width == 50 else CASES
    direct = _directly(tmp_path / "cases", cases, told, 3)
    with open_decoder(told, ENGLISH, 20.0) as decoder:
        ours = decoder.decode_batch(cases, n_best=3)
    assert [[[h.confidence, h.text] for h in found] for found in ours] == direct


@pytest.mark.parametrize(
    ("width", "cutoff_prob", "cutoff_top_n"),
    [(1, 1.0, 40), (5, 1.0, 40), (50, 1.0, 3), (50, 0.9, 40), (30, 0.999, 4)],
)
def test_our_beam_search_agrees(width: int, cutoff_prob: float, cutoff_top_n: int) -> None:
    """Text, times and N best are equal; only hypotheses within float32 rounding may swap places."""
    settings = {"beam_width": width, "cutoff_prob": cutoff_prob, "cutoff_top_n": cutoff_top_n}
    n_best = 3 if width >= 5 else 1
    with open_decoder(DecoderSettings("ds_ctcdecoder", **settings), ENGLISH, 20.0) as decoder:
        theirs = decoder.decode_batch(CASES, n_best)
    decoder = open_decoder(DecoderSettings("beam", **settings), ENGLISH, 20.0)
    swapped = 0
    for rows, wanted in zip(CASES, theirs, strict=True):
        found = decoder.decode(rows, n_best)
        scores = [h.confidence for h in found]
        assert scores == pytest.approx([h.confidence for h in wanted], abs=2e-3)
        if [h.text for h in found] != [h.text for h in wanted]:
            swapped += 1
            assert min(-np.diff(scores)) < 1e-3
        else:
            assert [h.words for h in found] == [h.words for h in wanted]
    assert swapped <= 1


def test_our_beam_search_always_finds_the_same_best_text() -> None:
    """600 of 600 texts and times: 200 matrices from nearly even to nearly certain, three widths.

    A larger trial gave 3,000 of 3,000; scores differ by 3e-5 at the most, because sums are float32
    there and float64 here. Only texts that are equally likely to five digits can swap places.
    """
    rng = np.random.default_rng(0)
    cases = [
        random_probabilities(
            seed, int(rng.integers(1, 40)), sharpness=rng.uniform(0.1, 5), blank=rng.uniform(-1, 2)
        )
        for seed in range(200)
    ]
    agreed = 0
    for width in (1, 10, 50):
        with open_decoder(DecoderSettings("ds_ctcdecoder", width), ENGLISH, 20.0) as decoder:
            theirs = [found[0] for found in decoder.decode_batch(cases)]
        ours = open_decoder(DecoderSettings("beam", width), ENGLISH, 20.0)
        for rows, wanted in zip(cases, theirs, strict=True):
            [found] = ours.decode(rows)
            assert found.confidence == pytest.approx(wanted.confidence, abs=1e-4)
            agreed += (found.text, found.words) == (wanted.text, wanted.words)
    assert agreed == 600


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 30),
    sharpness=st.floats(0.1, 6),
    blank=st.floats(-2, 3),
)
def test_our_beam_search_differs_only_in_ties(
    genuine: DeepSpeechDecoder, seed: int, steps: int, sharpness: float, blank: float
) -> None:
    """Labels with exactly equal probabilities are left out: the edge of the beam cuts through
    equals, and which of them survive is arbitrary."""
    rows = random_probabilities(seed, steps, sharpness=sharpness, blank=blank)
    [wanted] = genuine.decode(rows)
    found = open_decoder(DecoderSettings("beam", beam_width=50), ENGLISH, 20.0).decode(rows, 50)
    assert found[0].confidence == pytest.approx(wanted.confidence, abs=1e-3)
    tied = {h.text for h in found if h.confidence > found[0].confidence - 1e-3}
    assert wanted.text in tied


def test_a_batch_is_decoded_by_all_workers(genuine: DeepSpeechDecoder) -> None:
    genuine.decode_batch(CASES)
    assert all(worker.pid is not None for worker in genuine.workers)
    assert len({worker.pid for worker in genuine.workers}) == 2
    assert [found[0] for found in genuine.decode_batch(CASES)] == [
        genuine.decode(rows)[0] for rows in CASES
    ]


def test_settings_change_without_new_processes(genuine: DeepSpeechDecoder) -> None:
    """Tuning changes settings without restarting a process; later processes have them too."""
    narrow = DecoderSettings("ds_ctcdecoder", beam_width=1)
    with DeepSpeechDecoder(narrow, ENGLISH, 0.02, processes=1) as decoder:
        [worker] = decoder.workers
        pid = worker.pid
        assert len(decoder.decode(CASES[49], 3)) == 1
        decoder.change(DecoderSettings("ds_ctcdecoder", beam_width=50))
        assert worker.pid == pid
        wide = decoder.decode(CASES[49], 3)
        assert len(wide) == 3
        assert wide == genuine.decode(CASES[49], 3)
        os.kill(pid, signal.SIGKILL)
        assert decoder.decode(CASES[49], 3) == wide


def test_words_and_bytes_output_are_decoded(genuine: DeepSpeechDecoder) -> None:
    [found] = genuine.decode(spoken("we all go"))
    assert [(w.text, w.start_s) for w in found.words] == [
        ("we", 0.0),
        ("all", pytest.approx(0.12)),
        ("go", pytest.approx(0.28)),
    ]
    settings = DecoderSettings("ds_ctcdecoder", beam_width=50)
    with open_decoder(settings, bytes_alphabet(), 20.0) as decoder:
        assert decoder.decode(spoken_bytes("für 漢字"))[0].text == "für 漢字"


def test_streaming_gives_the_same_text(genuine: DeepSpeechDecoder) -> None:
    rows = CASES[49]
    stream, other = genuine.stream(), genuine.stream()
    assert stream.feed(rows[:0]) == ""
    for at in range(0, len(rows), 7):
        partial = stream.feed(rows[at : at + 7])
        other.feed(CASES[48][at : at + 7])
    final = stream.finish(4)
    assert final == genuine.decode(rows, 4)
    assert partial == final[0].text
    assert other.finish(4) == genuine.decode(CASES[48][: len(rows) + 6], 4)


def test_an_utterance_without_steps_is_empty(genuine: DeepSpeechDecoder) -> None:
    rows = np.zeros((0, 29), np.float32)
    assert genuine.decode(rows)[0].text == ""
    assert genuine.stream().finish()[0].text == ""


def test_a_worker_killed_in_a_batch_loses_nothing(genuine: DeepSpeechDecoder) -> None:
    batch = CASES * 4
    expected = genuine.decode_batch(batch, 2)
    killed = []

    def kill() -> None:
        for _ in range(2):
            time.sleep(0.2)
            for worker in genuine.workers:
                if worker.pid is not None:
                    os.kill(worker.pid, signal.SIGKILL)
                    killed.append(worker.pid)
                    break

    killer = threading.Thread(target=kill)
    starts = sum(worker.starts for worker in genuine.workers)
    killer.start()
    found = genuine.decode_batch(batch, 2)
    killer.join()
    genuine.decode(CASES[0])
    assert killed
    assert sum(worker.starts for worker in genuine.workers) > starts
    assert found == expected


def test_a_worker_killed_in_a_stream_loses_nothing(genuine: DeepSpeechDecoder) -> None:
    rows = CASES[49]
    stream = genuine.stream()
    for at in range(0, len(rows), 7):
        stream.feed(rows[at : at + 7])
        os.kill(genuine.workers[0].pid, signal.SIGKILL)
    assert stream.finish(3) == genuine.decode(rows, 3)


def test_a_request_for_too_many_hypotheses_gives_those_that_exist(
    genuine: DeepSpeechDecoder,
) -> None:
    """The library crashes on this request."""
    rows = random_probabilities(1, 1)
    found = genuine.decode(rows, n_best=50)
    assert 10 <= len(found) <= 29
    assert found == genuine.decode(rows, n_best=len(found))


def test_an_utterance_that_always_kills_the_decoder_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with DeepSpeechDecoder(DecoderSettings("ds_ctcdecoder"), ENGLISH, 0.02, processes=1) as decoder:
        start = decoder.workers[0].start

        def start_and_die() -> None:
            start()
            os.kill(decoder.workers[0].pid, signal.SIGKILL)

        monkeypatch.setattr(decoder.workers[0], "start", start_and_die)
        with pytest.raises(AsrbuildError) as caught:
            decoder.decode(CASES[0])
    assert caught.value.message == "ds-ctcdecoder ended 3 times on this utterance: signal 9"


def test_bad_input_does_not_reach_the_decoder(genuine: DeepSpeechDecoder) -> None:
    starts = genuine.workers[0].starts
    for bad in (np.zeros((3, 20), np.float32), np.full((3, 29), np.nan), np.ones((3, 29))):
        with pytest.raises(AsrbuildError):
            genuine.decode(bad)
        with pytest.raises(AsrbuildError):
            genuine.stream().feed(bad)
    assert genuine.workers[0].starts == starts


def test_closing_ends_the_processes() -> None:
    decoder = DeepSpeechDecoder(DecoderSettings("ds_ctcdecoder"), ENGLISH, 0.02, processes=2)
    decoder.decode_batch(CASES[:2])
    pids = [worker.pid for worker in decoder.workers]
    decoder.close()
    for pid in pids:
        if pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
