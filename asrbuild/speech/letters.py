"""Adapts DeepSpeech's decoder and scorers to other models whose labels are characters.

ds-ctcdecoder expects the blank last, a space between words, and labels that all print. Rows of
another vocabulary are folded into that form: the columns are reordered, and the probability of a
label that prints nothing is added to that of the blank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.decoder import Decoder, DecoderStream, Hypothesis, check_probabilities
from asrbuild.speech.tokens import Tokens, Vocabulary


def alphabet_of(tokens: Tokens) -> Alphabet:
    """The characters of a model as an alphabet of DeepSpeech, which its scorers are made for.

    Raises:
        AsrbuildError: the model's labels are not characters.
    """
    if isinstance(tokens, Alphabet):
        return tokens
    if not isinstance(tokens, Vocabulary) or tokens.kind != "characters":
        raise AsrbuildError(
            f"scorers are of characters; this model writes {tokens.kind}",
            key="decoder.scorer_path",
            fix="leave the scorer out",
        )
    spaced = (
        " " if token == tokens.boundary else tokens.labels[token] for token in _printed(tokens)
    )
    return Alphabet(tuple(spaced))


def fold(probabilities: Array, vocabulary: Vocabulary) -> Array:
    """Folds rows (steps, classes) of a vocabulary into (steps, labels + 1) of its alphabet."""
    printed = _printed(vocabulary)
    rest = [token for token in range(vocabulary.classes) if token not in printed]
    blank = probabilities[:, rest].sum(axis=1, keepdims=True)
    return np.concatenate([probabilities[:, printed], blank], axis=1)


class FoldedDecoder(Decoder):
    """A decoder that takes the rows of a vocabulary of characters and decodes with its alphabet."""

    def __init__(self, inner: Decoder, tokens: Tokens) -> None:
        assert isinstance(tokens, Vocabulary)
        self._inner = inner
        self._tokens = tokens

    def decode(self, probabilities: Array, n_best: int = 1) -> list[Hypothesis]:
        return self._inner.decode(self._folded(probabilities), n_best)

    def decode_batch(self, batch: Sequence[Array], n_best: int = 1) -> list[list[Hypothesis]]:
        return self._inner.decode_batch([self._folded(rows) for rows in batch], n_best)

    def stream(self) -> DecoderStream:
        return _FoldedStream(self._inner.stream(), self._tokens)

    def close(self) -> None:
        self._inner.close()

    def _folded(self, rows: Array) -> Array:
        return fold(check_probabilities(rows, self._tokens), self._tokens)


class _FoldedStream(DecoderStream):
    def __init__(self, inner: DecoderStream, tokens: Vocabulary) -> None:
        self._inner = inner
        self._tokens = tokens

    def feed(self, probabilities: Array) -> str:
        return self._inner.feed(
            fold(check_probabilities(probabilities, self._tokens), self._tokens)
        )

    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        return self._inner.finish(n_best)


def _printed(vocabulary: Vocabulary) -> list[int]:
    hushed = vocabulary.silent | {vocabulary.blank}
    return [token for token in range(vocabulary.classes) if token not in hushed]
