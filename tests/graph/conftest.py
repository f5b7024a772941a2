"""DeepSpeech graphs, and TensorFlow to judge by."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from asrbuild.deepspeech.export import write_frozen_graph
from asrbuild.deepspeech.flags import ExportFlags
from asrbuild.network import random_weights

HIDDEN = 32


@pytest.fixture(scope="session")
def tf() -> ModuleType:
    import tensorflow

    return tensorflow


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """Exports random weights with flags; returns the file."""

    def make(n_steps: int, **flags) -> Path:
        path = tmp_path_factory.mktemp("graph") / "output_graph.pb"
        labels = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
        weights = random_weights(HIDDEN, seed=3)
        write_frozen_graph(weights, ExportFlags(n_steps, HIDDEN, **flags), labels, path)
        return path

    return make
