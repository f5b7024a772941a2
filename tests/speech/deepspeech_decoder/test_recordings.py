"""ds-ctcdecoder on twenty real recordings, compared with direct calls and the beam search."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.speech.alphabet import read_alphabet
from asrbuild.speech.audio import read_audio
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.artifact.numpy_package import network
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DATA, DEMO

JOINS = DATA / "joins"
ALPHABET = read_alphabet(DEMO / "alphabet.txt")
SCORER = DEMO / "prompts.scorer"

DIRECT = """
import json, sys
import numpy as np
from ds_ctcdecoder import Alphabet, Scorer, ctc_beam_search_decoder
folder, alphabet_path, scorer_path = sys.argv[1:]
alphabet = Alphabet(alphabet_path)
scorer = Scorer(0.75, 1.85, scorer_path, alphabet)
print(json.dumps([[
    ctc_beam_search_decoder(np.load("%s/%d.npy" % (folder, i)).astype("float64"), alphabet, 40,
                            1.0, 40, used, {}, 2)
    for i in range(20)] for used in (None, scorer)]))
"""


@pytest.fixture(scope="module")
def spoken() -> list[np.ndarray]:
    """Probabilities of the recordings by the demo's network in plain numpy."""
    weights = read_weights(find_checkpoint(DEMO / "checkpoint", "auto"))
    zeros = np.zeros((1, weights.n_hidden), np.float32)
    recordings = sorted(JOINS.glob("*.wav"))
    assert len(recordings) == 20
    return [
        network(weights, features(read_audio(path, 16_000), FeatureSettings()), zeros, zeros)[
            0
        ].astype(np.float32)
        for path in recordings
    ]


@needs_ds_ctcdecoder
def test_results_equal_those_of_direct_calls(tmp_path: Path, spoken: list[np.ndarray]) -> None:
    for index, rows in enumerate(spoken):
        np.save(tmp_path / f"{index}.npy", rows)
    done = subprocess.run(
        [ds_environment.decoder_python(), "-c", DIRECT, tmp_path, DEMO / "alphabet.txt", SCORER],
        capture_output=True,
        text=True,
        check=True,
    )
    for scorer, direct in zip((None, SCORER), json.loads(done.stdout), strict=True):
        settings = DecoderSettings("ds_ctcdecoder", beam_width=40, scorer=scorer)
        with open_decoder(settings, ALPHABET, 20.0) as decoder:
            ours = decoder.decode_batch(spoken, n_best=2)
        assert [[[h.confidence, h.text] for h in found] for found in ours] == direct


@needs_ds_ctcdecoder
def test_our_beam_search_agrees_on_speech(spoken: list[np.ndarray]) -> None:
    with open_decoder(DecoderSettings("ds_ctcdecoder", 40), ALPHABET, 20.0) as decoder:
        theirs = decoder.decode_batch(spoken)
    ours = open_decoder(DecoderSettings("beam", 40), ALPHABET, 20.0).decode_batch(spoken)
    for found, wanted in zip(ours, theirs, strict=True):
        assert found[0].text == wanted[0].text
        assert found[0].words == wanted[0].words
        assert found[0].confidence == pytest.approx(wanted[0].confidence, abs=1e-3)
