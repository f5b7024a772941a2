"""What every CTC decoder offers: text, words with times, confidence, N best, streaming.

A decoder reads probabilities (steps, classes), the blank last, and finds label sequences. How it
finds them is its own affair (``greedy``, ``beam``, ``genuine``); texts and words are made
here, so they mean the same everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from asrbuild.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet, check_size

LARGEST_WEIGHT = 1e6
DECODERS = ("greedy", "beam", "ds_ctcdecoder")


@dataclass(frozen=True)
class DecoderSettings:
    """How to decode; the fields of a manifest's ``decoder`` section that change the outcome.

    Args:
        type: one of ``DECODERS``.
        beam_width: hypotheses kept after each step.
        cutoff_prob: only the likeliest labels that add up to this probability are tried; 1: all.
        cutoff_top_n: at most this many labels are tried, when ``cutoff_prob`` is below 1.
        scorer: a DeepSpeech scorer package, for ``ds_ctcdecoder`` only.
        lm_alpha: weight of the language model; None: the scorer's own.
        lm_beta: reward of each word; None: the scorer's own.
        hot_words: word -> boost, for ``ds_ctcdecoder`` with a scorer.
        interpreter: a Python that has, or can have, ds-ctcdecoder; None: found.
    """

    type: str = "greedy"
    beam_width: int = 500
    cutoff_prob: float = 1.0
    cutoff_top_n: int = 40
    scorer: Path | None = None
    lm_alpha: float | None = None
    lm_beta: float | None = None
    hot_words: Mapping[str, float] = field(default_factory=dict)
    interpreter: Path | None = None


@dataclass(frozen=True)
class Word:
    """One word: its text, when it was said (seconds), and how sure the model was (0 to 1).

    ``confidence`` is the geometric mean of the probabilities of its labels at their own steps.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """One transcript.

    ``confidence`` is the natural logarithm of its probability, as DeepSpeech reports it: the sum
    over all alignments the beam kept, plus the scorer's part; for greedy, of its one alignment.
    """

    text: str
    confidence: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class LabelPath:
    """What a search finds: labels, the step each one begins at, and the log probability."""

    tokens: tuple[int, ...]
    steps: tuple[int, ...]
    score: float


class UtteranceError(AsrbuildError):
    """One utterance that no words can be had of.

    ``position`` is its place in the batch; ``others`` are the hypotheses of those of the batch that
    have some, by their places: nothing that was decoded need be decoded again.
    """

    position: int = 0
    others: Mapping[int, list[Hypothesis]] = MappingProxyType({})


class Stream(ABC):
    """Decoding of steps that arrive chunk by chunk."""

    @abstractmethod
    def feed(self, probabilities: np.ndarray) -> str:
        """Takes (k, classes) more steps; the best text so far."""

    @abstractmethod
    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        """The final hypotheses, best first."""


class Decoder(ABC):
    """A decoder with its settings and alphabet; use as a context manager, or ``close`` it."""

    @abstractmethod
    def decode(self, probabilities: np.ndarray, n_best: int = 1) -> list[Hypothesis]:
        """(steps, classes) to at most ``n_best`` hypotheses, best first."""

    @abstractmethod
    def stream(self) -> Stream:
        """A fresh stream."""

    def decode_batch(self, batch: Sequence[np.ndarray], n_best: int = 1) -> list[list[Hypothesis]]:
        """Several recordings; in parallel where the decoder can.

        Raises:
            UtteranceError: of the first one that cannot be decoded, when all have been tried.
        """
        return [self.decode(probabilities, n_best) for probabilities in batch]

    def close(self) -> None:  # noqa: B027 (most decoders hold nothing)
        """Frees what the decoder holds."""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_decoder(
    settings: DecoderSettings, alphabet: Alphabet, step_ms: float, base_dir: Path | None = None
) -> Decoder:
    """The decoder that the settings name, checked and ready.

    Args:
        settings: which decoder, and how.
        alphabet: the model's labels.
        step_ms: milliseconds from one step to the next.
        base_dir: what a relative ``scorer`` is relative to.

    Raises:
        AsrbuildError: a setting makes no sense, or the decoder cannot be had here.
    """
    check_settings(settings)
    step_s = step_ms / 1000.0
    if settings.type == "greedy":
        from asrbuild.speech.greedy import GreedyDecoder

        return GreedyDecoder(alphabet, step_s)
    if settings.type == "beam":
        from asrbuild.speech.beam import BeamDecoder

        return BeamDecoder(settings, alphabet, step_s)
    from asrbuild.speech.genuine import DsDecoder

    return DsDecoder(settings, alphabet, step_s, base_dir)


def check_settings(settings: DecoderSettings) -> None:
    """Refuses settings that no decoder could follow.

    Raises:
        AsrbuildError: naming the key at fault.
    """
    if settings.type not in DECODERS:
        raise AsrbuildError(
            f"no decoder is called {settings.type!r}",
            key="decoder.type",
            fix=f"choose one of {', '.join(DECODERS)}",
        )
    wrong = {
        "beam_width": (settings.beam_width < 1, "must be at least 1"),
        "cutoff_prob": (not 0 < settings.cutoff_prob <= 1, "must be above 0 and at most 1"),
        "cutoff_top_n": (settings.cutoff_top_n < 1, "must be at least 1"),
    }
    for key, (bad, rule) in wrong.items():
        if bad:
            raise AsrbuildError(f"{key} is {getattr(settings, key)}, {rule}", key=f"decoder.{key}")
    weights = {"lm_alpha": settings.lm_alpha, "lm_beta": settings.lm_beta}
    weights |= {f"hot_words.{word}": boost for word, boost in settings.hot_words.items()}
    for key, weight in weights.items():
        # The library computes in float32, and has no error for what does not fit.
        if weight is not None and not abs(weight) <= LARGEST_WEIGHT:
            raise AsrbuildError(
                f"{key} is {weight}", key=f"decoder.{key}", fix="give a number of sensible size"
            )
    if settings.type != "ds_ctcdecoder" and (settings.scorer or settings.hot_words):
        raise AsrbuildError(
            f"the {settings.type} decoder uses no scorer and no hot words",
            key="decoder.scorer_path" if settings.scorer else "decoder.hot_words",
            fix="choose decoder=ds_ctcdecoder, or leave them out",
        )
    if settings.hot_words and settings.scorer is None:
        raise AsrbuildError(
            "hot words need a scorer",
            key="decoder.hot_words",
            fix="give decoder.scorer_path as well",
        )


def check_probabilities(probabilities: np.ndarray, alphabet: Alphabet) -> np.ndarray:
    """float (steps, classes), finite, in [0, 1], rows adding up to 1 within 1 %.

    Raises:
        AsrbuildError: they are something else, logits for instance.
    """
    array = np.asarray(probabilities)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise AsrbuildError(
            f"probabilities must be floats (steps, classes), not {array.dtype} {array.shape}"
        )
    check_size(alphabet, array.shape[1])
    if not np.isfinite(array).all():
        raise AsrbuildError("probabilities hold values that are not finite numbers")
    # Half precision sums of 29 rounded values stray a little; logits stray far.
    sums = array.sum(axis=1, dtype=np.float64)
    if array.size and (array.min() < 0 or np.abs(sums - 1.0).max() > 0.01):
        raise AsrbuildError(
            "these are no probabilities: rows must be at least 0 and add up to 1",
            fix="apply a softmax to logits first",
        )
    return array


def hypothesis(
    path: LabelPath, probabilities: np.ndarray, alphabet: Alphabet, step_s: float
) -> Hypothesis:
    """Text and words of a path; probabilities (steps, classes) are those it was found in."""
    return Hypothesis(
        text=alphabet.decode(path.tokens),
        confidence=path.score,
        words=words(path, probabilities, alphabet, step_s),
    )


def words(
    path: LabelPath, probabilities: np.ndarray, alphabet: Alphabet, step_s: float
) -> tuple[Word, ...]:
    """Words between space labels; each runs from its first label's step past its last one's."""
    tokens, steps = np.asarray(path.tokens, np.intp), np.asarray(path.steps, np.intp)
    breaks = np.flatnonzero(tokens == (-1 if alphabet.space is None else alphabet.space))
    found = []
    for start, stop in zip([-1, *breaks], [*breaks, len(tokens)], strict=True):
        inside = slice(start + 1, stop)
        if inside.start == stop:
            continue
        chances = probabilities[steps[inside], tokens[inside]].astype(np.float64)
        found.append(
            Word(
                text=alphabet.decode(tokens[inside].tolist()),
                start_s=float(steps[inside][0] * step_s),
                end_s=float((steps[inside][-1] + 1) * step_s),
                confidence=float(np.exp(np.log(np.maximum(chances, 1e-30)).mean())),
            )
        )
    return tuple(found)
