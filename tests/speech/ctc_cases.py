"""Probabilities to decode: random ones, and those of a text."""

from __future__ import annotations

import numpy as np

from asrbuild.speech.alphabet import bytes_alphabet, make_alphabet

ENGLISH = make_alphabet(" abcdefghijklmnopqrstuvwxyz'")
SMALL = make_alphabet("ab ")


def random_probabilities(
    seed: int, steps: int, classes: int = 29, sharpness: float = 2.0, blank: float = 1.0
) -> np.ndarray:
    """float32 (steps, classes), from nearly even to nearly certain."""
    logits = np.random.default_rng(seed).standard_normal((steps, classes)) * sharpness
    logits[:, -1] += blank * sharpness
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def spoken(text: str, alphabet=ENGLISH, certainty: float = 0.9) -> np.ndarray:
    """Probabilities that spell ``text``: every label for one step, then a blank for one."""
    rows = np.full((2 * len(text), alphabet.size + 1), (1 - certainty) / alphabet.size)
    for at, label in enumerate(alphabet.encode(text)):
        rows[2 * at, label] = certainty
        rows[2 * at + 1, alphabet.blank] = certainty
    return rows.astype(np.float32)


def spoken_bytes(text: str) -> np.ndarray:
    tokens = bytes_alphabet().encode(text)
    rows = np.full((2 * len(tokens), 256), 0.1 / 255, np.float32)
    rows[np.arange(0, len(rows), 2), tokens] = 0.9
    rows[1::2, 255] = 0.9
    return rows
