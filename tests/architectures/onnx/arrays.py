"""Random arrays for the cases of ops."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(7)


def floats(*shape: int, low: float = -2, high: float = 2) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def integers(*shape: int) -> np.ndarray:
    drawn = RNG.integers(1, 9, shape) * RNG.choice([-1, 1], shape)
    return np.asarray(drawn, np.int64)


def truths(*shape: int) -> np.ndarray:
    return np.asarray(RNG.integers(0, 2, shape), bool)
