"""Written scorers in the genuine decoder: KenLM's probabilities, and decoding with direct calls."""

from __future__ import annotations

import json
import math
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from asrbuild.speech.alphabet import bytes_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from asrbuild.speech.scorer.build import write_scorer
from asrbuild.speech.scorer.fit import check_scorer
from asrbuild.speech.scorer.ngrams import BEGIN, characters, estimate
from tests.marks import needs_ds_ctcdecoder
from tests.speech.ctc_cases import ENGLISH, random_probabilities, spoken_bytes
from tests.speech.scorer.texts import CHARACTERS, TEXT


def _random_sentences(seed: int, count: int = 200) -> list[list[str]]:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgh'", k=rng.randint(1, 9))) for _ in range(60)]
    return [
        [rng.choice(words[: rng.choice([3, 10, 60])]) for _ in range(rng.randint(1, 8))]
        for _ in range(count)
    ]


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
def test_kenlm_reads_the_written_probabilities(tmp_path: Path, order: int) -> None:
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
def test_results_equal_those_of_direct_calls(
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


#: Direct calls in UTF-8 mode. They return labels, as a beam may end inside a character.
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


@needs_ds_ctcdecoder
def test_utf_8_mode_equals_direct_calls(tmp_path: Path) -> None:
    """KenLM reads a scorer of characters of one to four bytes, and decoding is the same."""
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
