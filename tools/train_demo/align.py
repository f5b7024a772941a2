"""Cuts long prompts at their pauses, between the words that a half-trained model finds."""

from __future__ import annotations

import itertools

import numpy as np
from corpus import ALPHABET, Unit, loudness, trim
from features import RATE, STRIDE

HOP = RATE // 100  # samples of one loudness value
PAUSE = 12  # loudness values, 0.12 s


def forced_path(log_probs: np.ndarray, labels: list[int]) -> np.ndarray:
    """First and last frame of each label on the best CTC path; [labels, 2].

    log_probs is [time, 29], blank last.
    """
    blank = log_probs.shape[1] - 1
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skip = np.zeros(len(states), bool)
    skip[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), -np.inf)
    best[:2] = log_probs[0, states[:2]]
    back = np.zeros((len(log_probs), len(states)), np.int8)
    for time in range(1, len(log_probs)):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(skip, np.concatenate([[-np.inf] * 2, best[:-2]]), -np.inf)
        options = np.stack([best, one, two])
        back[time] = options.argmax(0)
        best = options.max(0) + log_probs[time, states]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    spans = np.full((len(labels), 2), -1)
    for time in range(len(log_probs) - 1, -1, -1):
        if state % 2:
            spans[state // 2, 0] = time
            spans[state // 2, 1] = max(spans[state // 2, 1], time)
        state -= int(back[time, state])
    return spans


def _pauses(audio: np.ndarray) -> list[tuple[int, int]]:
    """Runs of at least 0.12 s that are 38 dB below the loudest 10 ms; in samples."""
    level = loudness(audio, HOP)
    quiet = np.concatenate([[0], level < level.max() * 10 ** (-38 / 20), [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(quiet)).reshape(-1, 2)
    return [(a * HOP, b * HOP) for a, b in edges if b - a >= PAUSE]


def pieces(unit: Unit, log_probs: np.ndarray) -> list[Unit]:
    """The unit, cut at each pause between two of its words; [] if there is none."""
    words = unit.text.split()
    spans = forced_path(log_probs, [ALPHABET.index(char) for char in unit.text])
    ends = np.cumsum([len(word) + 1 for word in words]) - 2  # index of each word's last letter
    cuts: list[tuple[int, int]] = []  # (words before the cut, sample of the cut)
    for count, end in enumerate(ends[:-1], 1):
        early = spans[end, 1] * STRIDE - 0.2 * RATE
        late = spans[end + 2, 0] * STRIDE + 0.1 * RATE
        inside = [p for p in _pauses(unit.audio) if early < (p[0] + p[1]) / 2 < late]
        if inside:
            start, stop = max(inside, key=lambda pause: pause[1] - pause[0])
            if not cuts or (start + stop) // 2 > cuts[-1][1] + 0.2 * RATE:
                cuts.append((count, (start + stop) // 2))
    if not cuts:
        return []
    bounds = [(0, 0), *cuts, (len(words), len(unit.audio))]
    return [
        Unit(f"{unit.name}@{first}", " ".join(words[first:last]), trim(unit.audio[begin:stop]))
        for (first, begin), (last, stop) in itertools.pairwise(bounds)
    ]
