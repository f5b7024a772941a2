"""The decoder in this process, for an interpreter that has ds_ctcdecoder itself.

No wheel of it fits a Python of asrbuild, so a stand-in has its names and decodes with our own beam
search, which agrees with it (see test_decoder).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder import environment as ds_environment, process as ds_process
from tests.speech.ctc_cases import ENGLISH, random_probabilities

STAND_IN = """
from collections import namedtuple
from ds_ctcdecoder import swigwrapper
__version__ = "0.9.3"

class Alphabet:
    def __init__(self, path):
        self.labels = open(path, encoding="utf-8").read().split("\\n")[:-1]

def UTF8Alphabet():
    raise ValueError("not today")
"""
WRAPPER = """
from collections import namedtuple
from asrbuild.speech.beam import PrefixSearch
from asrbuild.speech.decoder_settings import DecoderSettings

Output = namedtuple("Output", "confidence tokens timesteps")

class DecoderState:
    def init(self, alphabet, beam_width, cutoff_prob, cutoff_top_n, scorer, hot_words):
        settings = DecoderSettings("beam", beam_width, cutoff_prob, cutoff_top_n)
        self.search = PrefixSearch(len(alphabet.labels) + 1, settings)

    def next(self, rows):
        assert rows.dtype == "float64"
        self.search.feed(rows)

    def decode(self, wanted):
        return [Output(p.score, p.tokens, p.steps) for p in self.search.best(wanted)]

def ctc_beam_search_decoder(rows, alphabet, width, prob, top_n, scorer, hot_words, wanted):
    state = DecoderState()
    state.init(alphabet, width, prob, top_n, scorer, hot_words)
    state.next(rows)
    return state.decode(wanted)
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[None]:
    package = tmp_path / "ds_ctcdecoder"
    package.mkdir()
    (package / "__init__.py").write_text(STAND_IN)
    (package / "swigwrapper.py").write_text(WRAPPER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        yield
    # Imported modules outlive the path: later tests in this process must not find the stand-in.
    for name in [name for name in sys.modules if name.partition(".")[0] == "ds_ctcdecoder"]:
        del sys.modules[name]
    assert not ds_environment.runs_here()


def test_this_interpreter_lacks_the_decoder() -> None:
    assert not ds_environment.runs_here()


def test_decoding_and_streaming_need_no_process(here: None) -> None:
    assert ds_environment.status().detail == "this interpreter has ds-ctcdecoder"
    rows = random_probabilities(5, 50)
    ours = open_decoder(DecoderSettings("beam", beam_width=30), ENGLISH, 20.0)
    with open_decoder(DecoderSettings("ds_ctcdecoder", beam_width=30), ENGLISH, 20.0) as decoder:
        assert decoder.decode(rows, 3) == ours.decode(rows, 3)
        stream = decoder.stream()
        for at in range(0, 50, 7):
            partial = stream.feed(rows[at : at + 7])
        assert stream.finish(3) == ours.decode(rows, 3)
        assert partial == ours.decode(rows)[0].text
        decoder.change(DecoderSettings("ds_ctcdecoder", beam_width=1))  # type: ignore[attr-defined]
        assert len(decoder.decode(rows, 3)) == 1
        assert all(worker.pid is None for worker in decoder.workers)  # type: ignore[attr-defined]


def test_a_decoder_that_cannot_be_opened_is_refused(here: None) -> None:
    with pytest.raises(AsrbuildError, match="ds-ctcdecoder refused the request: not today"):
        ds_process.InProcess(
            {
                "alphabet": None,
                "beam_width": 1,
                "cutoff_prob": 1.0,
                "cutoff_top_n": 1,
                "scorer": None,
                "hot_words": {},
            }
        )
