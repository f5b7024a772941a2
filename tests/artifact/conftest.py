"""Weights and the network's outputs in one call, shared by the tests of the runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights
from tests.artifact.numpy_package import HIDDEN, network, windows_of

Whole = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def weights() -> AcousticWeights:
    return random_weights(HIDDEN, seed=3)


@pytest.fixture(scope="session")
def whole(weights: AcousticWeights) -> Whole:
    """The network on ``windows_of(steps)`` in one call: probabilities and final states."""

    @functools.cache
    def run(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        zeros = np.zeros((1, HIDDEN), np.float32)
        if steps == 0:
            return np.zeros((0, 29)), zeros, zeros
        return network(weights, windows_of(steps), zeros, zeros)

    return run
