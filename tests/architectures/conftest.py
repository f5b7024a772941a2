"""TensorFlow as an independent reference, and graphs to compare."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights

LABELS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
HIDDEN = 32


@pytest.fixture(scope="session")
def tf() -> ModuleType:
    import tensorflow

    return tensorflow


@pytest.fixture(scope="session")
def weights() -> AcousticWeights:
    return random_weights(HIDDEN, seed=3)


@pytest.fixture(scope="session")
def labels() -> list[str]:
    return LABELS


@pytest.fixture(scope="session")
def export(weights, labels, tmp_path_factory):
    """Exports the weights with flags; returns the file."""

    def make(n_steps: int, **flags) -> Path:
        path = tmp_path_factory.mktemp("export") / "output_graph.pb"
        write_frozen_graph(weights, ExportFlags(n_steps, HIDDEN, **flags), labels, path)
        return path

    return make


@pytest.fixture(scope="session")
def run_graph(tf):
    """Runs a frozen graph in TensorFlow's own session: (path, fetches, feeds) -> values."""
    sessions = {}

    def run(path: Path, fetches: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        if path not in sessions:
            definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
            graph = tf.Graph()
            with graph.as_default():
                tf.compat.v1.import_graph_def(definition, name="")
            sessions[path] = tf.compat.v1.Session(graph=graph)
        names = {f"{name}:0": value for name, value in feeds.items()}
        return sessions[path].run([f"{name}:0" for name in fetches], names)

    yield run
    for session in sessions.values():
        session.close()
