"""Decoding in Swift: the words, times and scores of ds-ctcdecoder 0.9.3 and of asrbuild's decoders.

A tool of the kit's module ASRCore reads cases as data. ``ASRBUILD_DECODING_CASES=3000`` makes more
random cases. The models in ``kenlm`` are those of ``tests/speech/lmplz/order3.arpa``, which is
asrbuild's own, written by KenLM's build_binary in each of its data structures.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import read_alphabet
from asrbuild.speech.audio import read_audio
from asrbuild.speech.decoder import UtteranceError
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder.decoder import DeepSpeechDecoder
from asrbuild.speech.letters import FoldedDecoder, alphabet_of
from asrbuild.speech.mfcc import FeatureSettings, features
from asrbuild.speech.outputs import to_probabilities
from asrbuild.speech.scorer.fit import check_scorer
from asrbuild.speech.tokens import Vocabulary
from tests.artifact.numpy_package import network
from tests.handover.app.swift_decoder import (
    BYTES,
    FOREIGN,
    HERE,
    Case,
    Scorer,
    Tool,
    build_tool,
    difference,
    make_scorers,
    random_cases,
    random_rows,
    settings_of,
    spoken_rows,
)
from tests.manifests import MANIFEST
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DATA, DEMO
from tests.speech.ctc_cases import ENGLISH

pytestmark = pytest.mark.skipif(
    shutil.which("swift") is None, reason="there is no Swift toolchain here"
)
CASES = int(os.environ.get("ASRBUILD_DECODING_CASES", "200"))


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    return build_tool(tmp_path_factory.mktemp("decoding"))


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    return make_scorers(tmp_path_factory.mktemp("scorers"))


@needs_ds_ctcdecoder
def test_random_cases_equal_those_of_ds_ctcdecoder(tool: Tool, scorers: dict[str, Scorer]) -> None:
    cases, alphabets = random_cases(scorers, CASES)
    answers = tool.decode(cases, alphabets)
    decoders: dict[int, DeepSpeechDecoder] = {}
    crashed, wrong = 0, []
    for number, (case, answer) in enumerate(zip(cases, answers, strict=True)):
        tokens = alphabets[case["tokens"]]
        inner = decoders.get(case["tokens"])
        if inner is None:
            inner = DeepSpeechDecoder(settings_of(case), alphabet_of(tokens), 0.02, processes=1)
            decoders[case["tokens"]] = inner
        else:
            inner.change(settings_of(case))
        decoder = inner if tokens is not FOREIGN else FoldedDecoder(inner, tokens)
        try:
            expected = decoder.decode(case["p"], 5)
        except UtteranceError:
            # No prefix has a probability: the program ends, and ours lists none, or such prefixes.
            crashed += 1
            assert all(one["confidence"] < -1e38 for one in answer["hypotheses"]), case
            continue
        found = difference(answer, expected)
        if not found and number % 4 == 0:
            stream, pieces = decoder.stream(), np.split(case["p"], case["cuts"])
            partials = [stream.feed(piece) for piece in pieces]
            found = (
                "" if partials == answer["partials"] else f"{answer['partials']}, not {partials}"
            )
        if found:
            wrong.append((number, {k: v for k, v in case.items() if k != "p"}, found))
    for inner in decoders.values():
        inner.close()
    assert not wrong, "\n".join(map(str, wrong[:8]))
    assert crashed < CASES / 20


@needs_ds_ctcdecoder
def test_recordings_equal_those_of_ds_ctcdecoder(tool: Tool) -> None:
    weights = read_weights(find_checkpoint(DEMO / "checkpoint", "auto"))
    zeros = np.zeros((1, weights.n_hidden), np.float32)
    alphabet = read_alphabet(DEMO / "alphabet.txt")
    scorer, hot = str(DEMO / "prompts.scorer"), {"march": -40.0, "minus": -40.0}
    cases: list[Case] = []
    for path in [*sorted((DATA / "joins").glob("*.wav")), DEMO / "sample.wav", DEMO / "second.wav"]:
        frames = features(read_audio(path, 16_000), FeatureSettings())
        rows = network(weights, frames, zeros, zeros)[0].astype(np.float32)
        for used, words in ((None, {}), (scorer, {}), (scorer, hot)):
            cases.append(
                {
                    "p": rows,
                    "tokens": 0,
                    "output": "probabilities",
                    "decoder": "beam",
                    "width": 100,
                    "alpha": 0.75 if used else None,
                    "beta": 1.85 if used else None,
                    "cutoff_prob": 1.0,
                    "cutoff_top_n": 40,
                    "scorer": used,
                    "hot_words": words,
                    "n_best": 3,
                    "cuts": list(range(0, len(rows), 16)),
                }
            )
    answers = tool.decode(cases, (alphabet,))
    with DeepSpeechDecoder(settings_of(cases[0]), alphabet, 0.02, processes=1) as decoder:
        for case, answer in zip(cases, answers, strict=True):
            decoder.change(settings_of(case))
            expected = decoder.decode(case["p"], 3)
            assert difference(answer, expected) == ""
            assert answer["partials"][-1] == expected[0].text
    texts = [answer["hypotheses"][0]["text"] for answer in answers]
    assert texts[0::3] != texts[1::3] != texts[2::3], "scorer and hot words change nothing"


def random_vocabulary(chance: np.random.Generator) -> Vocabulary:
    """Labels of any kind, the blank anywhere, some that print nothing."""
    kind = str(chance.choice(["characters", "pieces", "phonemes", "classes"]))
    labels = [
        "<unk>",
        "a",
        "bc",
        "\u00e9",
        "\u2581",
        "\u2581the",
        "s",
        "\u2581a",
        "ts",
        "|",
        "\u0301",
    ]
    if kind == "pieces":
        labels += ["<0xE2>", "<0x96>", "<0x81>", "<0xC3>", "<0x41>", "<0x20>", "<0xg0>"]
    if chance.random() < 0.3:
        # More labels than the search tries with every prefix.
        labels += [f"x{number}" for number in range(400)]
    order = chance.permutation(len(labels) + (kind != "classes"))
    named = [*labels, *(["<b>"] if kind != "classes" else [])]
    shuffled = tuple(named[at] for at in order)
    blank = shuffled.index("<b>") if kind != "classes" else None
    boundary = shuffled.index("|") if chance.random() < 0.7 else None
    silent = {shuffled.index("<unk>")} if chance.random() < 0.7 else set()
    return Vocabulary(shuffled, kind, blank, boundary, frozenset(silent))  # type: ignore[arg-type]


def test_a_step_of_a_long_utterance_takes_no_longer_than_the_first(tool: Tool) -> None:
    """Ten times as many steps take ten times the processor's time, and not a hundred times."""
    weights = read_weights(find_checkpoint(DEMO / "checkpoint", "auto"))
    zeros = np.zeros((1, weights.n_hidden), np.float32)
    frames = features(read_audio(DEMO / "sample.wav", 16_000), FeatureSettings())
    once = network(weights, frames, zeros, zeros)[0].astype(np.float32)
    case = {"tokens": 0, "output": "probabilities", "decoder": "beam", "n_best": 1, "width": 100}
    case["scorer"] = str(DEMO / "prompts.scorer")
    short, long = (
        case | {"p": np.tile(once, (times, 1)), "cuts": list(range(0, times * len(once), 16))}
        for times in (4, 40)
    )
    # Equal recordings have equally likely alternatives, so that the beam keeps some of each.
    first, second = tool.decode([short, long], (read_alphabet(DEMO / "alphabet.txt"),))
    assert second["seconds"] < 30 * first["seconds"]


def test_labels_of_every_kind_give_the_text_of_python(tool: Tool) -> None:
    chance = np.random.default_rng(2)
    vocabularies: list[Vocabulary] = []
    cases: list[Case] = []
    for number in range(CASES // 2):
        tokens = random_vocabulary(chance)
        # Only the Swift decoder chooses between equal labels as ds-ctcdecoder does.
        rows = random_rows(chance, tokens.classes, tokens.blank or 0, ties=number % 2 == 1)
        output = ("probabilities", "log_probabilities", "logits")[number % 3]
        given = rows
        if output != "probabilities":
            given = np.log(rows) + (3 * chance.random((len(rows), 1)) if output == "logits" else 0)
        count = int(chance.integers(0, 4))
        vocabularies.append(tokens)
        cases.append(
            {
                "p": given.astype(np.float32),
                "tokens": number,
                "output": output,
                "n_best": 3,
                "decoder": "greedy" if tokens.blank is None or number % 2 else "beam",
                "width": int(chance.choice([1, 5, 40])),
                "cuts": sorted(chance.integers(0, len(rows) + 1, count).tolist()),
                "cutoff_prob": float(chance.choice([1.0, 0.95])),
            }
        )
    answers = tool.decode(cases, tuple(vocabularies))
    kinds = set()
    for case, tokens, answer in zip(cases, vocabularies, answers, strict=True):
        settings = DecoderSettings(case["decoder"])
        if case["decoder"] == "beam":
            settings = DecoderSettings("beam", case["width"], case["cutoff_prob"])
        rows = to_probabilities(case["p"], case["output"])
        decoder = open_decoder(settings, tokens, 20.0)
        expected = decoder.decode(rows, 3)
        assert "error" not in answer, answer
        best = answer["hypotheses"][0]
        assert best["confidence"] == pytest.approx(expected[0].confidence, abs=1e-4)
        if len(expected) > 1 and expected[0].confidence - expected[1].confidence < 1e-4:
            # Sums in single and double precision may give either order.
            continue
        assert difference(answer, expected[:1]) == ""
        assert answer["partials"][-1] == expected[0].text
        stream = decoder.stream()
        if case["decoder"] == "greedy":
            partials = [stream.feed(piece) for piece in np.split(rows, case["cuts"])]
            assert partials == answer["partials"]
        kinds.add((tokens.kind, case["decoder"]))
    assert len(kinds) == 7


def damaged_scorers(sound: bytes, chance: np.random.Generator) -> dict[str, bytes]:
    """Files with one fault that a reader must find, by name."""
    trie = sound.rindex(b"EIRT")

    def patched(at: int, more: bytes) -> bytes:
        return sound[:at] + more + sound[at + len(more) :]

    found = {
        "empty": b"",
        "text": b"\\data\\\n" * 40,
        "other version": patched(49, b"4"),
        "other machine": patched(60, bytes(4)),
        "order 0": patched(88, b"\0"),
        "order 11": patched(88, b"\x0b"),
        "kind 6": patched(96, b"\x06"),
        "no multiplier": patched(92, struct.pack("<f", math.nan)),
        "another search": patched(104, b"\x07"),
        "huge count": patched(108, b"\xff" * 8),
        "no words": patched(108, bytes(8)),
        "another trie": patched(trie + 4, b"\x05"),
        "no flag": patched(trie + 8, b"\x02"),
        "no alpha": patched(trie + 9, struct.pack("<d", math.inf)),
        "bare model": sound[:trie],
        "other automaton": sound.replace(b"const", b"vecto"),
        "arcs out of the trie": sound[:-4] + b"\xff\xff\xff\x7f",
        "a loop": sound[:-4] + bytes(4),
        "labels out of order": sound[:-16] + b"\0\0\0\0" + sound[-12:],
    }
    for cut in (chance.integers(0, len(sound) - 16, 12)).tolist():
        found[f"cut at {cut}"] = sound[:cut]
    return found


def test_a_damaged_scorer_is_an_error_and_does_not_end_the_program(
    tool: Tool, scorers: dict[str, Scorer], tmp_path: Path
) -> None:
    chance = np.random.default_rng(4)
    kinds = [*(path.stem for path in sorted((HERE / "kenlm").glob("*.bin"))), "bytes"]
    cases: list[Case] = []
    names: list[str] = []

    def add(name: str, content: bytes, scorer: Scorer) -> None:
        path = tmp_path / f"{len(cases)}.scorer"
        path.write_bytes(content)
        names.append(name)
        cases.append(
            {
                "p": spoken_rows(chance, scorer),
                "tokens": int(scorer.alphabet is BYTES),
                "cuts": [],
                "output": "probabilities",
                "decoder": "beam",
                "scorer": str(path),
                "n_best": 1,
                "width": 40,
            }
        )

    for kind in kinds:
        scorer = scorers[kind]
        sound = scorer.path.read_bytes()
        for name, content in damaged_scorers(sound, chance).items():
            add(f"{kind}: {name}", content, scorer)
        for _ in range(CASES // 10):
            content = bytearray(sound)
            for at in chance.integers(0, len(sound), int(chance.choice([1, 1, 8, 400]))):
                content[at] = chance.integers(256)
            add("", bytes(content), scorer)
    add("of another alphabet", scorers["abc"].path.read_bytes(), scorers["probing"])
    add("of bytes", scorers["bytes"].path.read_bytes(), scorers["probing"])
    answers = tool.decode(cases, (ENGLISH, BYTES))
    refused = 0
    for name, case, answer in zip(names, cases, answers, strict=True):
        if name:
            assert "badScorer" in answer.get("error", ""), (name, answer)
            continue
        refused += "error" in answer
        try:
            check_scorer(case["scorer"], (ENGLISH, BYTES)[case["tokens"]])
        except AsrbuildError:
            # Swift finds the faults that Python finds in a complete file.
            assert "error" in answer, case["scorer"]
    assert 0 < refused < names.count("")


def test_decoder_settings_of_the_manifest_are_followed_or_refused(
    tool: Tool, scorers: dict[str, Scorer], tmp_path: Path
) -> None:
    chance = np.random.default_rng(6)
    probing = scorers["probing"]
    manifest = copy.deepcopy(MANIFEST)
    sound = probing.path.read_bytes()
    digest = hashlib.sha256(sound).hexdigest()
    entry = {"path": "probing.scorer", "role": "scorer", "sha256": digest}
    manifest["files"].append(entry | {"bytes": probing.path.stat().st_size})
    section = {
        "type": "ds_ctcdecoder",
        "alphabet": list(ENGLISH.labels),
        "beam_width": 30,
        "cutoff_prob": 0.99,
        "cutoff_top_n": 20,
        "hot_words": {"cat": 3.0},
        "scorer": {"path": "probing.scorer", "sha256": digest, "lm_alpha": 1.7, "lm_beta": 0.3},
    }
    manifest["decoder"] |= section
    manifests = [manifest]
    for change in (
        {"type": "beam"},
        {"type": "greedy", "scorer": None, "hot_words": {}},
        {"scorer": None},
        {"scorer": None, "hot_words": {}},
        {"beam_width": 1 << 21},
        {"hot_words": {"two words": 1.0}},
        {"hot_words": {"\u00e9": 1.0}},
        {"cutoff_prob": 1.5},
        {"blank_index": 5},
    ):
        changed = copy.deepcopy(manifest)
        changed["decoder"] |= change
        manifests.append(changed)
    other = copy.deepcopy(manifest)
    other["files"][-1]["bytes"] += 1
    manifests.append(other)
    rows = spoken_rows(chance, probing)

    def case(number: int, scorer: Path | None = probing.path, **more: object) -> Case:
        return {
            "p": rows,
            "manifest": number,
            "output": "probabilities",
            "decoder": "manifest",
            "cuts": [],
            "n_best": 1,
            "scorer": None if scorer is None else str(scorer),
            **more,
        }

    kept, greedy, plain, boosted = tool.decode(
        [
            case(0),
            case(2, None),
            case(4, None),
            case(0, decoder="beam", hot_words={"mat": 9.0}, width=50),
        ],
        (),
        manifests,
    )
    settings = DecoderSettings("ds_ctcdecoder", 30, 0.99, 20, probing.path, 1.7, 0.3, {"cat": 3.0})
    wanted = {"greedy": DecoderSettings("greedy"), "beam": DecoderSettings("beam", 30, 0.99, 20)}
    assert difference(greedy, open_decoder(wanted["greedy"], ENGLISH, 20.0).decode(rows)) == ""
    assert difference(plain, open_decoder(wanted["beam"], ENGLISH, 20.0).decode(rows)) == ""
    if not needs_ds_ctcdecoder.args[0]:
        with open_decoder(settings, ENGLISH, 20.0) as decoder:
            assert difference(kept, decoder.decode(rows)) == ""
        words = DecoderSettings("ds_ctcdecoder", 50, 0.99, 20, probing.path, 1.7, 0.3, {"mat": 9.0})
        with open_decoder(words, ENGLISH, 20.0) as decoder:
            assert difference(boosted, decoder.decode(rows)) == ""
    # One weight of the language model differs: the file is sound, but not that of the manifest.
    changed_scorer = tmp_path / "changed.scorer"
    changed_scorer.write_bytes(sound[: len(sound) // 3] + b"\x3f" + sound[len(sound) // 3 + 1 :])
    assert changed_scorer.read_bytes() != sound
    refusals = {
        (0, None): "probing.scorer",
        (1, probing.path): "uses no scorer",
        (3, None): "hot words",
        (4, probing.path): "does not name",
        (5, probing.path): "width 2097152",
        (6, probing.path): "not one word",
        (7, probing.path): "cannot spell",
        (8, probing.path): "cutoff_prob",
        (9, probing.path): "the blank is 5",
        (10, probing.path): "is not probing.scorer of the manifest: it has ",
        (0, changed_scorer): "is not probing.scorer of the manifest: its SHA-256 is ",
    }
    refused = tool.decode([case(*each) for each in refusals], (), manifests)
    for expected, answer in zip(refusals.values(), refused, strict=True):
        assert expected in answer.get("error", ""), (expected, answer)
