"""Greedy CTC decoding: the likeliest class of each step, repeats merged, blanks dropped.

A model without a blank gives one of several classes for each row: its text is the label of the
likeliest class, once for each run of equal rows.
"""

from __future__ import annotations

import numpy as np

from asrbuild.base.array import Array
from asrbuild.speech.decoder import (
    Decoder,
    DecoderStream,
    Hypothesis,
    LabelPath,
    check_probabilities,
    hypothesis,
)
from asrbuild.speech.tokens import Tokens


def best_path(probabilities: Array, blank: int | None) -> LabelPath:
    """The labels of the single likeliest alignment of probabilities (steps, classes).

    Without a ``blank`` (None) every step has a label.
    """
    classes = probabilities.argmax(axis=1)
    blank = -1 if blank is None else blank
    previous = np.concatenate([[blank], classes[:-1]])[: len(classes)]
    steps = np.flatnonzero((classes != blank) & (classes != previous))
    chances = probabilities.max(axis=1).astype(np.float64) if len(classes) else np.ones(0)
    return LabelPath(
        tokens=tuple(classes[steps].tolist()),
        steps=tuple(steps.tolist()),
        score=float(np.log(np.maximum(chances, 1e-30)).sum()),
    )


class GreedyDecoder(Decoder):
    """The decoder ``greedy``: fast, with one hypothesis for any ``n_best``."""

    def __init__(self, tokens: Tokens, step_s: float) -> None:
        self._vocabulary = tokens
        self._step_s = step_s

    def decode(self, probabilities: Array, n_best: int = 1) -> list[Hypothesis]:
        checked = check_probabilities(probabilities, self._vocabulary)
        path = best_path(checked, self._vocabulary.blank)
        return [hypothesis(path, checked, self._vocabulary, self._step_s)]

    def stream(self) -> DecoderStream:
        return _GreedyStream(self, self._vocabulary)


class _GreedyStream(DecoderStream):
    def __init__(self, decoder: GreedyDecoder, tokens: Tokens) -> None:
        self._decoder = decoder
        self._vocabulary = tokens
        self._chunks: list[Array] = []
        self._tokens: list[int] = []
        self._last = tokens.blank

    def feed(self, probabilities: Array) -> str:
        checked = check_probabilities(probabilities, self._vocabulary)
        self._chunks.append(checked.copy())
        for label in checked.argmax(axis=1).tolist():
            if label not in (self._last, self._vocabulary.blank):
                self._tokens.append(label)
            self._last = label
        return self._vocabulary.decode(self._tokens)

    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        empty = np.zeros((0, self._vocabulary.classes), np.float32)
        return self._decoder.decode(np.concatenate([empty, *self._chunks]), n_best)
