"""Reads DeepSpeech scorer packages.

A package is a KenLM binary language model, followed by the word trie: the magic number ``TRIE``,
a version, a flag for UTF-8 mode, the default alpha and beta, and an OpenFst ConstFst whose arcs are
labelled with alphabet index + 1. The decoder library does not check any of this, so it is checked
here first.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import SCORER
from asrbuild.base.kinds.recognition import require

KENLM_MAGIC = b"mmap lm http://kheafield.com/code format version"


VERSION = 6


LONGEST_WORD = 1000


MASK = (1 << 64) - 1


_MURMUR = 0xC6A4A7935BD1E995


#: int32 "TRIE", int32 version, bool, two doubles, then OpenFst's magic number 2125659606.
_TRIE = re.compile(rb"EIRT(.{4})([\x00\x01])(.{16})\xd6\xfd\xb2\x7e", re.DOTALL)


#: fst version and flags, properties, start state, state and arc counts.
_FST_FIXED = struct.Struct("<iiQqqq")


_STATE = np.dtype(
    [("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("ie", "<u4"), ("oe", "<u4")]
)


_ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("next", "<i4")])


_ALIGNED = 4


_MODEL_KINDS = (
    "probing",
    "rest-probing",
    "trie",
    "quantised trie",
    "array trie",
    "quantised array trie",
)


@dataclass(frozen=True)
class ScorerInfo:
    """The facts about a scorer package.

    Args:
        order: the greatest n of its n-grams.
        ngrams: the number of each order, unigrams first; the unknown word and the marks count.
        words: number of words in the trie.
        bytes_output: whether it was made for UTF-8 mode.
        lm_alpha: its default weight of the language model.
        lm_beta: its default reward of a word.
        labels: alphabet indices in its words.
        space: alphabet index that ends its words; None in UTF-8 mode.
        kind: KenLM's data structure.
        size: bytes of the file.
    """

    order: int
    ngrams: tuple[int, ...]
    words: int
    bytes_output: bool
    lm_alpha: float
    lm_beta: float
    labels: tuple[int, ...]
    space: int | None
    kind: str
    size: int


@dataclass(frozen=True)
class Lexicon:
    """A package's trie, and the part of its language model with the hashes of words."""

    states: Array
    arcs: Array
    keys: bytes


def read_scorer(path: Path) -> tuple[ScorerInfo, Lexicon]:
    """Reads a scorer package: its facts, and its trie with the hashes of words."""
    require(path, SCORER, key="decoder.scorer_path")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < 200:
                raise bad_scorer(path, "is too short to be one")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(data, size, path)
    except OSError as error:
        raise AsrbuildError(
            f"the scorer cannot be read: {error.strerror}", key="decoder.scorer_path", file=path
        ) from error


def in_trie(lexicon: Lexicon, labels: list[int]) -> bool:
    """Whether the trie has a word with these labels."""
    at = 0
    for label in labels:
        first, count = int(lexicon.states["first"][at]), int(lexicon.states["arcs"][at])
        arcs = lexicon.arcs[first : first + count]
        fitting = arcs["next"][arcs["ilabel"] == label + 1]
        if not len(fitting):
            return False
        at = int(fitting[0])
    return bool(np.isfinite(lexicon.states["final"][at]))


def murmur(data: bytes) -> int:
    """MurmurHash64A with seed 0: KenLM's key of a word."""
    value = len(data) * _MURMUR & MASK
    whole = len(data) // 8 * 8
    for (block,) in struct.iter_unpack("<Q", data[:whole]):
        block = block * _MURMUR & MASK
        block = (block ^ block >> 47) * _MURMUR & MASK
        value = (value ^ block) * _MURMUR & MASK
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MURMUR & MASK
    value = (value ^ value >> 47) * _MURMUR & MASK
    return value ^ value >> 47


def _read(data: mmap.mmap, size: int, path: Path) -> tuple[ScorerInfo, Lexicon]:
    if data[: len(KENLM_MAGIC)] != KENLM_MAGIC:
        if data[:6] == b"\\data\\":
            raise bad_scorer(path, "is an ARPA text file")
        raise bad_scorer(path, "does not start with a KenLM binary model")
    order, kind, ngrams, words_end = _model_header(data, path)
    trie = _last_trie(data)
    if trie is None:
        raise bad_scorer(path, "ends without the word trie: it is truncated, or a bare KenLM model")
    version, utf8, defaults = trie.groups()
    if struct.unpack("<i", version)[0] != VERSION:
        raise bad_scorer(path, f"has trie version {struct.unpack('<i', version)[0]}, not {VERSION}")
    alpha, beta = struct.unpack("<dd", defaults)
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise bad_scorer(path, f"has no numbers as its alpha and beta ({alpha}, {beta})")
    states, arcs = _fst(data, trie.end() - 4, size, path)
    bytes_output = utf8 == b"\x01"
    final = np.isfinite(states["final"])
    ending = arcs["ilabel"][final[arcs["next"]]]
    ends = np.unique(ending) - 1
    labels = np.unique(arcs["ilabel"]) - 1
    if len(labels) and labels[0] < 0:
        raise bad_scorer(path, "has a trie with empty labels")
    space = int(ends[0]) if not bytes_output and len(ends) == 1 else None
    info = ScorerInfo(
        order,
        ngrams,
        _count_words(states, arcs, path),
        bytes_output,
        alpha,
        beta,
        tuple(labels.tolist()),
        space,
        kind,
        size,
    )
    return info, Lexicon(states, arcs, data[:words_end])


def _model_header(data: mmap.mmap, path: Path) -> tuple[int, str, tuple[int, ...], int]:
    """KenLM's header: a sanity block padded to 88 bytes, fixed parameters, n-gram counts.

    Returns it with the end of the hashes of words: the words come first, in a table with room for
    ``multiplier`` entries of 12 bytes each (probing), or as 8 sorted bytes each (its tries).
    """
    at = 88
    order, multiplier, kind, _, _ = struct.unpack_from("<B3xfIBxxxI", data, at)
    if not 1 <= order <= 10 or kind >= len(_MODEL_KINDS) or not 1 <= multiplier <= 1000:
        raise bad_scorer(path, f"has a damaged KenLM header (order {order}, kind {kind})")
    counts = struct.unpack_from(f"<{order}Q", data, at + 20)
    words_end = at + 20 + 8 * order + 64 + math.ceil(12 * multiplier * counts[0])
    return order, _MODEL_KINDS[kind], counts, words_end


def _last_trie(data: mmap.mmap) -> re.Match[bytes] | None:
    """The match of the trie's header: the last one, because the trie follows the language model."""
    at = data.rfind(b"EIRT")
    while at >= 0:
        if found := _TRIE.match(data, at):
            return found
        at = data.rfind(b"EIRT", 0, at)
    return None


def _fst(data: mmap.mmap, at: int, size: int, path: Path) -> tuple[Array, Array]:
    """The states and arcs of the ConstFst whose magic number is at ``at``."""
    try:
        at += 4
        for wanted in (b"const", b"standard"):
            length = struct.unpack_from("<i", data, at)[0]
            if at + 4 + length > size:
                raise bad_scorer(path, "is truncated in its word trie")
            if data[at + 4 : at + 4 + length] != wanted:
                raise bad_scorer(path, f"has a trie that is not a {wanted.decode()} FST")
            at += 4 + length
        _, flags, _, start, n_states, n_arcs = _FST_FIXED.unpack_from(data, at)
        at += _FST_FIXED.size
        if start != 0 or n_states < 1 or n_arcs < 0:
            raise bad_scorer(path, "has an empty or damaged trie")
        at = _aligned(at, flags)
        states_end = at + n_states * _STATE.itemsize
        arcs_at = _aligned(states_end, flags)
        if arcs_at + n_arcs * _ARC.itemsize > size:
            raise bad_scorer(path, "is truncated in its word trie")
        states = np.frombuffer(data[at:states_end], _STATE)
        arcs = np.frombuffer(data[arcs_at : arcs_at + n_arcs * _ARC.itemsize], _ARC)
    except struct.error as error:
        raise bad_scorer(path, "is truncated in its word trie") from error
    ends = states["first"].astype(np.int64) + states["arcs"]
    if ends.max() > n_arcs or (
        n_arcs and not 0 <= arcs["next"].min() <= arcs["next"].max() < n_states
    ):
        raise bad_scorer(path, "has a damaged word trie")
    return states, arcs


def _aligned(at: int, flags: int) -> int:
    return -(-at // 16) * 16 if flags & _ALIGNED else at


def _count_words(states: Array, arcs: Array, path: Path) -> int:
    """Counts the paths from the start to a final state, length by length; words share states."""
    source = np.repeat(np.arange(len(states)), states["arcs"])
    following = arcs["next"][arc_order(states)]
    ways = np.isfinite(states["final"]).astype(np.float64)
    words = ways[0]
    for _ in range(LONGEST_WORD):
        ways = np.bincount(source, weights=ways[following], minlength=len(states))
        words += ways[0]
        if not ways.any():
            return int(words)
    raise bad_scorer(path, f"has a word trie with a loop, or words of over {LONGEST_WORD} labels")


def arc_order(states: Array) -> Array:
    """Indices of the arcs, state by state."""
    counts = states["arcs"].astype(np.int64)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    order: Array = np.repeat(states["first"].astype(np.int64), counts) + within
    return order


def bad_scorer(path: Path, what: str) -> AsrbuildError:
    """The error for a file that is not a valid scorer; ``what`` completes "the scorer ..."."""
    return AsrbuildError(
        f"the scorer {what}",
        key="decoder.scorer_path",
        file=path,
        fix="give a DeepSpeech .scorer package; `asrbuild scorer build` makes one",
    )


def inspect_scorer(path: str | Path) -> ScorerInfo:
    """Reads the facts about a scorer package.

    Raises:
        AsrbuildError: the file is missing, a text file, an ARPA file, truncated, or of another
        version.
    """
    return read_scorer(Path(path))[0]


def scorer_weights(path: str | Path) -> tuple[float, float]:
    """A package's own alpha and beta, the defaults of ``lm_alpha`` and ``lm_beta``."""
    info = inspect_scorer(path)
    return info.lm_alpha, info.lm_beta
