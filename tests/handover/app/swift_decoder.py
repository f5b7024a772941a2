"""The kit's decoding as a program, and random cases and scorers for it."""

from __future__ import annotations

import json
import math
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.handover.app.kit import MADE, TEMPLATES
from asrbuild.handover.app.swift import manifest_swift
from asrbuild.speech.alphabet import Alphabet, bytes_alphabet, make_alphabet
from asrbuild.speech.decoder import Hypothesis
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.letters import alphabet_of
from asrbuild.speech.scorer.build import _append_trie, write_scorer
from asrbuild.speech.scorer.ngrams import characters, estimate, read_arpa
from asrbuild.speech.tokens import Vocabulary
from tests.paths import DEMO
from tests.speech.ctc_cases import ENGLISH

HERE = Path(__file__).parent
ARPA = HERE.parents[1] / "speech" / "lmplz" / "order3.arpa"
PACKAGE = """// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "Decoding",
    targets: [
        .target(name: "ASRCore"), .executableTarget(name: "decode", dependencies: ["ASRCore"]),
    ]
)
"""
ABC = make_alphabet("ab ")
#: More labels than values of a byte, most of them outside of words.
WIDE = make_alphabet([*ENGLISH.labels, *(chr(0x4E00 + n) for n in range(250))])
BYTES = bytes_alphabet()
#: Characters with the blank first, a boundary, and a label that prints nothing.
FOREIGN = Vocabulary(
    ("<pad>", "<unk>", *"etaoinshrdlcumwfgypbvk'xjqz", "|"), "characters", 0, 29, frozenset({1})
)
Case = dict[str, Any]
#: Decodes the cases that ``Tool.write`` wrote; a line of JSON for each.
DECODE = ("swift", "run", "-c", "release", "--skip-build", "decode", "cases.json", "rows.f32")


@dataclass(frozen=True)
class Tool:
    """The program that decodes cases in Swift."""

    package: Path

    def decode(self, cases: list[Case], tokens: tuple[Any, ...] = (), manifests: Any = ()) -> Any:
        """Decodes cases, whose rows are the array ``p``; returns the answers."""
        self.write(cases, tokens, manifests)
        done = self.run(*DECODE)
        assert done.returncode == 0, done.stderr[-2000:]
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(cases)
        return answers

    def write(self, cases: list[Case], tokens: tuple[Any, ...], manifests: Any = ()) -> None:
        """Writes cases as files of the program."""
        book, start = [], 0
        for case in cases:
            rows = case["p"]
            book.append({key: value for key, value in case.items() if key != "p"})
            book[-1] |= {"start": start, "rows": len(rows), "classes": rows.shape[1]}
            start += rows.size
        flat = [np.zeros(0), *(case["p"].ravel() for case in cases)]
        np.concatenate(flat).astype("<f4").tofile(self.package / "rows.f32")
        written = {"tokens": [_labels(each) for each in tokens], "cases": book}
        written["manifests"] = [json.dumps(manifest) for manifest in manifests]
        (self.package / "cases.json").write_text(json.dumps(written))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.package,
        )


def _labels(tokens: Alphabet | Vocabulary) -> dict[str, Any]:
    labels = {"labels": list(tokens.labels)}
    if isinstance(tokens, Alphabet):
        return labels | {"bytes": tokens.bytes_output}
    return labels | {
        "kind": tokens.kind,
        "blank": tokens.blank,
        "boundary": tokens.boundary,
        "silent": sorted(tokens.silent),
    }


#: Folders of ASRCore that decoding does not use; without them a build takes two thirds of the time.
UNUSED = ("Features", "Sound", "Transcript")


def build_tool(package: Path, change: Callable[[Path], object] = lambda _: None) -> Tool:
    """Compiles the program of ``decoding/main.swift`` with the parts of ASRCore that it uses.

    ``change`` is called with the folder of the sources before that.
    """
    core = package / "Sources" / "ASRCore"
    shutil.copytree(
        TEMPLATES / "ASRKit" / "Sources" / "ASRCore", core, ignore=shutil.ignore_patterns(*UNUSED)
    )
    (package / MADE).write_text(manifest_swift())
    change(package / "Sources")
    shutil.copytree(HERE / "decoding", package / "Sources" / "decode")
    (package / "Package.swift").write_text(PACKAGE)
    made = Tool(package)
    done = made.run("swift", "build", "-c", "release")
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@dataclass(frozen=True)
class Scorer:
    """A scorer package, the labels it is for, and some of its words."""

    path: Path
    alphabet: Alphabet
    words: list[str]


def make_scorers(folder: Path) -> dict[str, Scorer]:
    """A package of each of KenLM's data structures, of other alphabets, and of UTF-8 mode."""
    words = read_arpa(ARPA).words
    found = {"demo": Scorer(DEMO / "prompts.scorer", ENGLISH, ["please", "enter", "the", "number"])}
    for model in sorted((HERE / "kenlm").glob("*.bin")):
        path = folder / f"{model.stem}.scorer"
        path.write_bytes(packaged(model.read_bytes(), words))
        found[model.stem] = Scorer(path, ENGLISH, words)
    texts = [["ab", "a", "b"], ["ba", "aab"], ["a", "bb", "ab"], ["b", "ab", "a", "b", "bb"]]
    signs = ["你好 吗", "é日本 a", "日 é你"]
    made = {
        "abc": (texts, 4, ABC, ["a", "ab", "bb"]),
        "wide": ([["the", "一丁", "丂"], ["丂", "cat", "the"]], 3, WIDE, ["the", "一丁", "丂"]),
        "bytes": ([characters(line) for line in signs], 3, BYTES, list("你好日本é")),
        "foreign": (
            [["the", "cat"], ["a", "dog's", "the"]],
            3,
            alphabet_of(FOREIGN),
            ["the", "cat"],
        ),
    }
    for name, (sentences, order, alphabet, some) in made.items():
        path = folder / f"{name}.scorer"
        write_scorer(estimate(sentences, order), alphabet, path, 0.8, 1.1)
        found[name] = Scorer(path, alphabet, some)
    return found


def packaged(model: bytes, words: list[str]) -> bytes:
    package = bytearray(model) + struct.pack("<4si?dd", b"EIRT", 6, False, 0.9, 1.2)
    _append_trie(package, [[*ENGLISH.encode(word), 0] for word in words])
    return bytes(package)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


def random_rows(
    chance: np.random.Generator, classes: int, blank: int, ties: bool = True
) -> np.ndarray:
    """Rows from nearly even to nearly certain; with ties every third has many equal values."""
    sharpness = chance.uniform(0.3, 4)
    logits = chance.standard_normal((int(chance.integers(0, 50)), classes)) * sharpness
    logits[:, blank] += chance.uniform(-1, 2) * sharpness
    rows = softmax(logits)
    if ties and chance.random() < 0.3:
        rows = np.round(rows * 8) / 8 + 1 / 64
        rows = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def spoken_rows(chance: np.random.Generator, scorer: Scorer) -> np.ndarray:
    """Rows that spell some of the scorer's words, with noise."""
    text = " ".join(chance.choice(scorer.words, int(chance.integers(1, 6))))
    labels = scorer.alphabet.encode(text.replace(" ", "") if scorer.alphabet is BYTES else text)
    rows = np.full((2 * len(labels), scorer.alphabet.size + 1), 0.3 / scorer.alphabet.size)
    rows[np.arange(0, len(rows), 2), labels] += 1
    rows[1::2, -1] += 1
    rows += chance.random(rows.shape) * chance.uniform(0, 0.6) * 28 / scorer.alphabet.size
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def random_case(chance: np.random.Generator, scorer: Scorer | None, alphabet: Alphabet) -> Case:
    case: Case = {
        "output": "probabilities",
        "decoder": "beam",
        "n_best": 5,
        "hot_words": {},
        "width": int(chance.choice([1, 2, 5, 20, 100, 300])),
        "alpha": None,
        "beta": None,
        "cutoff_prob": float(chance.choice([1.0, 1.0, 0.99, 0.6])),
        "cutoff_top_n": int(chance.choice([40, 40, 300, 5])),
        "scorer": None if scorer is None else str(scorer.path),
    }
    rows = random_rows(chance, alphabet.size + 1, alphabet.size)
    if scorer is not None:
        if chance.random() < 0.6:
            rows = spoken_rows(chance, scorer)
        if chance.random() < 0.4:
            words = chance.choice(scorer.words, 2)
            case["hot_words"] = {str(word): float(chance.uniform(-5, 8)) for word in words}
        if chance.random() < 0.3:
            case |= {"alpha": float(chance.uniform(0, 3)), "beta": float(chance.uniform(-2, 3))}
    count = int(chance.integers(0, 4))
    return case | {"p": rows, "cuts": sorted(chance.integers(0, len(rows) + 1, count).tolist())}


def random_cases(
    scorers: dict[str, Scorer], count: int
) -> tuple[list[Case], tuple[Alphabet | Vocabulary, ...]]:
    """Cases with every scorer and without, the same each time; and the labels that they name."""
    chance = np.random.default_rng(15)
    alphabets = (ENGLISH, ABC, WIDE, BYTES)
    cases: list[Case] = []
    for _ in range(count):
        name = str(chance.choice([*scorers, "none", "none", "none"]))
        scorer = scorers.get(name)
        alphabet = alphabets[int(chance.integers(4))] if scorer is None else scorer.alphabet
        case = random_case(chance, scorer, alphabet)
        if name == "foreign":
            # The same rows in the order of the vocabulary: the blank first, the boundary last.
            rows = case["p"]
            case["p"] = np.concatenate(
                [rows[:, -1:] * 0.75, rows[:, -1:] * 0.25, rows[:, :-1]], axis=1
            )
        tokens = 4 if name == "foreign" else alphabets.index(alphabet)
        cases.append(case | {"tokens": tokens})
    return cases, (*alphabets, FOREIGN)


def difference(answer: dict[str, Any], expected: list[Hypothesis]) -> str:
    """The difference of an answer; empty if there is none."""
    if answer.get("error"):
        return str(answer["error"])
    # Prefixes without a probability fill the list, in an order that depends on its length.
    expected = [each for each in expected if each.confidence > -1e38]
    if len(answer["hypotheses"]) < len(expected):
        return f"{len(answer['hypotheses'])} hypotheses of {len(expected)}"
    for found, right in zip(answer["hypotheses"], expected, strict=False):
        if found["text"] != right.text:
            return f"{found['text']!r} ({found['confidence']}), not {right}"
        if not math.isclose(found["confidence"], right.confidence, abs_tol=1e-4):
            return f"{found['confidence']}, not {right}"
        if len(found["words"]) != len(right.words):
            return f"words {found['words']}, not {right.words}"
        for word, wanted in zip(found["words"], right.words, strict=True):
            near = [
                math.isclose(word[key], getattr(wanted, key), abs_tol=1e-6)
                for key in ("start_s", "end_s", "confidence")
            ]
            if word["text"] != wanted.text or not all(near):
                return f"{word}, not {wanted}"
    return ""


def settings_of(case: Case) -> DecoderSettings:
    scorer = None if case["scorer"] is None else Path(case["scorer"])
    return DecoderSettings(
        "ds_ctcdecoder",
        case["width"],
        case["cutoff_prob"],
        case["cutoff_top_n"],
        scorer,
        case["alpha"],
        case["beta"],
        case["hot_words"],
    )
