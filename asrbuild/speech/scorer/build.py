"""Writes DeepSpeech scorer packages: a KenLM binary model, followed by the word trie.

The model is KenLM's "probing" layout: hash tables for the words and for the n-grams of each order,
with linear probing. Source of the layout: KenLM's binary_format.hh, vocab.hh and search_hashed.hh,
binary version 5. The trie is a minimal acyclic automaton of the words as label indices + 1, each
word ended by a space, written as OpenFst's ConstFst. In UTF-8 mode the words are single characters,
spelled in bytes, and have no end label: UTF-8 itself marks the end of a character.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.scorer.ngrams import BEGIN, END, UNKNOWN, Gram, NgramModel
from asrbuild.speech.scorer.package import KENLM_MAGIC, MASK, VERSION, murmur

DEFAULT_ALPHA, DEFAULT_BETA = 0.931289039105002, 1.1834137581510284  # DeepSpeech 0.7 to 0.9
_MULTIPLIER = 1.5
_WORD = np.dtype([("key", "<u8"), ("value", "<u4")])
_WEIGHTS = np.dtype([("prob", "<f4"), ("backoff", "<f4")])
_MIDDLE = np.dtype([("key", "<u8"), ("prob", "<f4"), ("backoff", "<f4")])
_LONGEST = np.dtype([("key", "<u8"), ("prob", "<f4")])
#: OpenFst's property bits: expanded, acceptor, deterministic, no epsilons, arcs sorted.
_FST_PROPERTIES = (
    0x1 | 0x10000 | 0x40000 | 0x100000 | 0x800000 | 0x2000000 | 0x8000000 | 0x10000000 | 0x40000000
)


def write_scorer(
    model: NgramModel,
    alphabet: Alphabet,
    destination: Path,
    lm_alpha: float = DEFAULT_ALPHA,
    lm_beta: float = DEFAULT_BETA,
) -> int:
    """Writes a scorer package; returns the number of words in its trie.

    Words that the alphabet cannot spell stay in the language model but not in the trie. In UTF-8
    mode the model has characters as words (see ``ngrams.characters``).

    Raises:
        AsrbuildError: the alphabet has no space label, or spells none of the words; in UTF-8 mode,
            a word of the model has several characters; a weight is not a finite number.
    """
    for name, weight in (("alpha", lm_alpha), ("beta", lm_beta)):
        if not math.isfinite(weight):
            raise AsrbuildError(f"{name} is {weight}", fix="give a finite number")
    if not alphabet.bytes_output and alphabet.space is None:
        raise AsrbuildError(
            "scorers are built of words, and this alphabet has no space between words",
            key="alphabet_config_path",
        )
    long = next((word for word in model.words if len(word) > 1), None)
    if alphabet.bytes_output and long is not None:
        raise AsrbuildError(
            f"in UTF-8 mode a scorer is of characters, and the language model has {long!r}",
            fix="estimate it from text whose characters stand apart: `t h i s`",
        )
    spelled = [word for word in model.words if _spells(alphabet, word)]
    if not spelled:
        raise AsrbuildError(
            "the alphabet spells none of the words",
            fix="normalise the text, for instance to lower case",
        )
    package = bytearray(kenlm_binary(model))
    package += struct.pack("<4si?dd", b"EIRT", VERSION, alphabet.bytes_output, lm_alpha, lm_beta)
    end = [] if alphabet.bytes_output or alphabet.space is None else [alphabet.space]
    _append_trie(package, [alphabet.encode(word) + end for word in spelled])
    destination.write_bytes(package)
    return len(spelled)


def kenlm_binary(model: NgramModel) -> bytes:
    """The model in KenLM's probing layout, without the words' text."""
    index = {UNKNOWN: 0}
    for gram in model.tables[0]:
        index.setdefault(gram[0], len(index))
    if BEGIN not in index or END not in index:
        raise AsrbuildError(f"the language model lacks {BEGIN} or {END}")
    counts = [len(table) for table in model.tables]
    sanity = KENLM_MAGIC + b" 5\n"
    header = sanity.ljust(56, b"\0") + struct.pack("<fffIIIQ", 0.0, 1.0, -0.5, 1, 2**32 - 1, 0, 1)
    header += struct.pack("<B3xfIB3xI", model.order, _MULTIPLIER, 0, 0, 0)
    header += struct.pack(f"<{model.order}Q", *counts)
    parts = [header.ljust(-(-len(header) // 8) * 8, b"\0")]
    parts.append(struct.pack("<II", 0, len(index)))
    vocabulary = [(murmur(word.encode()), number) for word, number in index.items() if number]
    parts.append(_hash_table(vocabulary, counts[0], _WORD))
    extends, continued = _neighbours(model)
    unigrams = np.zeros(counts[0] + 1, _WEIGHTS)
    for gram, weights in model.tables[0].items():
        unigrams[index[gram[0]]] = _signed(gram, weights, extends, continued)
    parts.append(unigrams.tobytes())
    for table in model.tables[1:-1]:
        rows = [
            (_key(gram, index), *_signed(gram, weights, extends, continued))
            for gram, weights in table.items()
        ]
        parts.append(_hash_table(rows, len(table), _MIDDLE))
    longest = [(_key(gram, index), -abs(weights[0])) for gram, weights in model.tables[-1].items()]
    parts.append(_hash_table(longest, len(longest), _LONGEST))
    return b"".join(parts)


def _spells(alphabet: Alphabet, word: str) -> bool:
    if alphabet.bytes_output:
        return "\0" not in word
    return " " not in word and all(character in alphabet.labels for character in word)


def _neighbours(model: NgramModel) -> tuple[set[Gram], set[Gram]]:
    """The n-grams that a longer n-gram extends to the left, and those extended to the right."""
    longer = [gram for table in model.tables[1:] for gram in table]
    return {gram[1:] for gram in longer}, {gram[:-1] for gram in longer}


def _signed(
    gram: Gram, weights: tuple[float, float], extends: set[Gram], continued: set[Gram]
) -> tuple[float, float]:
    """The weights of an n-gram with KenLM's two flags in their sign bits.

    The probability is positive if a longer n-gram extends it to the left; the backoff is -0.0 if
    none extends it to the right.
    """
    probability = abs(weights[0]) if gram in extends else -abs(weights[0])
    backoff = weights[1] if weights[1] != 0 else (0.0 if gram in continued else -0.0)
    return probability, backoff


def _key(gram: Gram, index: dict[str, int]) -> int:
    """The hash of an n-gram, from its last word to its first."""
    *before, last = (index[word] for word in gram)
    key = last
    for word in reversed(before):
        key = (key * 8978948897894561157 & MASK) ^ ((1 + word) * 17894857484156487943 & MASK)
    return key


def _hash_table(rows: Sequence[tuple[Any, ...]], entries: int, dtype: np.dtype[Any]) -> bytes:
    """A hash table with linear probing from key modulo size; key 0 marks an empty place."""
    size = max(entries + 1, int(np.float32(_MULTIPLIER) * np.float32(entries)))
    table = np.zeros(size, dtype)
    taken = np.zeros(size, bool)
    for row in rows:
        place = row[0] % size
        while taken[place]:
            place = (place + 1) % size
        taken[place] = True
        table[place] = row
    return table.tobytes()


def _append_trie(package: bytearray, words: list[list[int]]) -> None:
    """Appends the ConstFst; its parts are aligned to 16 bytes of the whole file."""
    states = _minimal_automaton(words)
    arcs = sum(len(arcs) for arcs, _ in states)
    for name in (b"const", b"standard"):
        if name == b"const":
            package += struct.pack("<i", 2125659606)
        package += struct.pack("<i", len(name)) + name
    package += struct.pack("<iiQqqq", 2, 4, _FST_PROPERTIES, 0, len(states), arcs)
    package += bytes(-len(package) % 16)
    first = 0
    for outgoing, final in states:
        weight = 0.0 if final else float("inf")
        package += struct.pack("<fIIII", weight, first, len(outgoing), 0, 0)
        first += len(outgoing)
    package += bytes(-len(package) % 16)
    for outgoing, _ in states:
        for label, following in outgoing:
            package += struct.pack("<iifi", label + 1, label + 1, 0.0, following)


def _minimal_automaton(words: list[list[int]]) -> list[tuple[list[tuple[int, int]], bool]]:
    """The states as (arcs (label, state) in label order, final), the start state first.

    Words come sorted; a state is settled when no later word passes through it, and equal settled
    states are merged.
    """
    settled: dict[tuple[Any, ...], int] = {}
    ordered: list[tuple[list[tuple[int, int]], bool]] = []

    def settle(node: dict[int, object]) -> int:
        arcs = [(label, child) for label, child in sorted(node.items()) if label >= 0]
        key = (tuple(arcs), -1 in node)
        if key not in settled:
            settled[key] = len(ordered)
            ordered.append((arcs, -1 in node))  # type: ignore[arg-type]
        return settled[key]

    path: list[dict[int, object]] = [{}]
    previous: list[int] = []
    for word in [*sorted(words), []]:
        shared = 0
        while shared < min(len(word), len(previous)) and word[shared] == previous[shared]:
            shared += 1
        for depth in range(len(previous), shared, -1):
            path[depth - 1][previous[depth - 1]] = settle(path[depth])
            del path[depth]
        for label in word[shared:]:
            path.append({})
            path[len(path) - 2][label] = None
        if word:
            path[-1][-1] = True
        previous = word
    start = settle(path[0])
    # The start must be state 0; it was settled last, so states are numbered from the end.
    flipped = {old: start - old for old in range(start + 1)}
    return [
        ([(label, flipped[child]) for label, child in arcs], final)
        for arcs, final in reversed(ordered)
    ]
