"""Networks built with coremltools' NeuralNetworkBuilder, saved, and run by the executor."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.coreml.executor import load
from tests.coreml.executor.harness import ct
from tests.coreml.executor.tested import note_network


def run_network(
    add: Callable[[Any], None], arrays: dict[str, np.ndarray], outputs: list[str]
) -> list[np.ndarray]:
    """Builds a network by ``add(builder)``, saves it, runs it; returns the named blobs."""
    datatypes = ct.models.datatypes
    builder = ct.models.neural_network.NeuralNetworkBuilder(
        [(name, datatypes.Array(*array.shape)) for name, array in arrays.items()],
        [(name, None) for name in outputs],
        disable_rank5_shape_mapping=True,
    )
    add(builder)
    note_network(builder.spec.neuralNetwork)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "network.mlmodel"
        path.write_bytes(builder.spec.SerializeToString())
        results = load(path).predict(arrays)
    assert all(result.dtype == np.float64 for result in results.values())  # as the builder declares
    return [results[name].astype(np.float32) for name in outputs]


def run_layer(method: str, *arrays: Any, outputs: int = 1, **parameters: Any) -> list[np.ndarray]:
    """One layer by its builder method, on these inputs."""
    import inspect

    inputs = {f"input_{n}": np.asarray(array, np.float32) for n, array in enumerate(arrays)}
    names = [f"output_{n}" for n in range(outputs)]

    def add(builder: Any) -> None:
        accepts = inspect.signature(getattr(builder, method)).parameters
        ports: dict[str, Any] = {}
        if "input_names" in accepts:
            ports["input_names"] = list(inputs)
        elif "input_name" in accepts:
            ports["input_name"] = next(iter(inputs)) if len(inputs) == 1 else list(inputs)
        if "output_names" in accepts:
            ports["output_names"] = names
        else:
            ports["output_name"] = names[0]
        getattr(builder, method)(name="layer", **ports, **parameters)

    feeds = inputs or {"unused": np.zeros(1, np.float32)}
    return run_network(add, feeds, names)


def same(got: list[np.ndarray], *wanted: np.ndarray, atol: float = 2e-6) -> None:
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.shape == np.shape(w), (g.shape, np.shape(w))
        np.testing.assert_allclose(g, w, rtol=2e-6, atol=atol)
