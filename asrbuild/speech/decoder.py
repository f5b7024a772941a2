"""The interface of every CTC decoder: text, words with times, confidence, N best, streaming.

A decoder reads probabilities (steps, classes) and finds sequences of labels, by its own method
(``greedy``, ``beam``, ``deepspeech_decoder``). This module makes texts and words of them, so that
they have the same meaning for every decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet, check_size
from asrbuild.speech.tokens import Tokens


@dataclass(frozen=True)
class Word:
    """One word of a transcript: its text, its start and end in seconds, its confidence (0 to 1).

    ``confidence`` is the geometric mean of the probabilities of its labels at their own steps.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Hypothesis:
    """One possible transcript of a recording.

    ``confidence`` is the natural logarithm of its probability, as DeepSpeech reports it: the sum
    over all alignments the beam kept, plus the scorer's part; for greedy, of its one alignment.
    """

    text: str
    confidence: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class LabelPath:
    """The result of a search: labels, the first step of each label, and the log probability."""

    tokens: tuple[int, ...]
    steps: tuple[int, ...]
    score: float


class UtteranceError(AsrbuildError):
    """An utterance that could not be decoded.

    ``position`` is its index in the batch; ``others`` are the hypotheses of the decoded utterances
    of the batch by their indices, so that they need not be decoded again.
    """

    position: int = 0
    others: Mapping[int, list[Hypothesis]] = MappingProxyType({})


class DecoderStream(ABC):
    """A stream: decodes steps that arrive chunk by chunk."""

    @abstractmethod
    def feed(self, probabilities: Array) -> str:
        """Takes probabilities of more steps (k, classes); returns the best text so far."""

    @abstractmethod
    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        """The final hypotheses, best first."""


class Decoder(ABC):
    """A decoder with its settings and labels; use it as a context manager, or ``close`` it."""

    @abstractmethod
    def decode(self, probabilities: Array, n_best: int = 1) -> list[Hypothesis]:
        """Decodes probabilities (steps, classes) to at most ``n_best`` hypotheses, best first."""

    @abstractmethod
    def stream(self) -> DecoderStream:
        """Opens a new stream."""

    def decode_batch(self, batch: Sequence[Array], n_best: int = 1) -> list[list[Hypothesis]]:
        """Decodes several recordings, in parallel if the decoder can.

        Raises:
            UtteranceError: an utterance cannot be decoded; raised for the first, after all were
            tried.
        """
        return [self.decode(probabilities, n_best) for probabilities in batch]

    def close(self) -> None:  # noqa: B027 (most decoders hold nothing)
        """Frees the resources of the decoder."""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_probabilities(probabilities: Array, tokens: Tokens) -> Array:
    """Probabilities as an array (steps, classes): finite, in [0, 1], rows add up to 1 within 1 %.

    Raises:
        AsrbuildError: they are not probabilities of these labels, but logits for instance.
    """
    array = np.asarray(probabilities)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise AsrbuildError(
            f"probabilities must be floats (steps, classes), not {array.dtype} {array.shape}"
        )
    if isinstance(tokens, Alphabet):
        check_size(tokens, array.shape[1])
    elif tokens.classes != array.shape[1]:
        raise AsrbuildError(
            f"the vocabulary has {tokens.classes} labels, the model {array.shape[1]} classes",
            key="tokens",
            fix="give the labels that the model was trained with, the blank's included",
        )
    if not np.isfinite(array).all():
        raise AsrbuildError("probabilities hold values that are not finite numbers")
    # Sums of 29 values rounded to half precision are nearly 1; those of logits are far from it.
    sums = array.sum(axis=1, dtype=np.float64)
    if array.size and (array.min() < 0 or np.abs(sums - 1.0).max() > 0.01):
        raise AsrbuildError(
            "these are not probabilities: rows must be at least 0 and add up to 1",
            fix="apply a softmax to logits first",
        )
    return array


def hypothesis(path: LabelPath, probabilities: Array, tokens: Tokens, step_s: float) -> Hypothesis:
    """Makes a hypothesis, with text and words, of a path in probabilities (steps, classes)."""
    return Hypothesis(
        text=tokens.decode(path.tokens),
        confidence=path.score,
        words=words(path, probabilities, tokens, step_s),
    )


def words(path: LabelPath, probabilities: Array, tokens: Tokens, step_s: float) -> tuple[Word, ...]:
    """The words of a path; a word lasts from its first label's step to its last one's end."""
    labels, steps = np.asarray(path.tokens, np.intp), np.asarray(path.steps, np.intp)
    found = []
    for span in tokens.words(path.tokens):
        inside = slice(span.start, span.stop)
        chances = probabilities[steps[inside], labels[inside]].astype(np.float64)
        found.append(
            Word(
                text=tokens.decode(path.tokens[inside]),
                start_s=float(steps[inside][0] * step_s),
                end_s=float((steps[inside][-1] + 1) * step_s),
                confidence=float(np.exp(np.log(np.maximum(chances, 1e-30)).mean())),
            )
        )
    return tuple(found)
