"""The demo's network in every form of package, built once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
)
from tests.coreai import opinions
from tests.paths import DEMO

RANGE = RangeSteps(1, 16, 2000)
LISTED = EnumeratedSteps((4, 16), 16)
_DENSE = ("layer_1", "layer_2", "layer_3", "layer_5")


def stored(how: str, *layers: str) -> dict[str, str]:
    """Compression of all layers by one method."""
    return dict.fromkeys(layers or _DENSE, how)


FORMS: dict[str, dict[str, Any]] = {
    "static": {"precision": "fp32"},
    "range": {"precision": "fp32", "steps": RANGE},
    "enumerated": {"precision": "fp32", "steps": LISTED},
    "loop": {"precision": "fp32", "lstm": "loop", "steps": RANGE},
    "enumerated_loop": {"precision": "fp32", "lstm": "loop", "steps": LISTED},
    "multifunction": {
        "precision": "fp32",
        "deployment_target": "iOS18",
        "functions": {"main": FixedSteps(16), "whole": RANGE, "listed": LISTED},
    },
    "int8": {"precision": "fp32", "deployment_target": "iOS18", "compress": stored("int8")},
    "palette_4": {"precision": "fp32", "compress": stored("palettize_4")},
    "palette_6": {
        "precision": "fp32",
        "deployment_target": "iOS18",
        "compress": stored("palettize_6"),
    },
    "pruned": {
        "precision": "fp32",
        "deployment_target": "iOS18",
        "compress": stored("prune"),
        "sparsity": 0.5,
    },
    "half": {"precision": "fp16"},
    "half_range": {"precision": "fp16", "steps": RANGE},
    "half_loop": {"precision": "fp16", "lstm": "loop", "steps": RANGE},
    "half_stateful": {"precision": "fp16", "state": "stateful", "deployment_target": "iOS18"},
    "half_stateful_range": {
        "precision": "fp16",
        "state": "stateful",
        "deployment_target": "iOS18",
        "steps": RANGE,
    },
    "half_int8": {"precision": "fp16", "compress": stored("int8", *_DENSE, "lstm")},
    "half_palette": {"precision": "fp16", "compress": stored("palettize_4", *_DENSE, "lstm")},
    "half_pruned": {"precision": "fp16", "compress": stored("prune"), "sparsity": 0.5},
}


def convert_demo(request: ConversionRequest, path: Path) -> None:
    """Writes the demo's network as a package."""
    convert_weights(read_weights(find_checkpoint(DEMO / "checkpoint")), request, path)


@pytest.fixture(scope="session")
def form(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the package of a form at its first use."""
    folder = tmp_path_factory.mktemp("forms")

    def package(name: str) -> Path:
        path = folder / f"{name}.mlpackage"
        if not path.exists():
            convert_demo(ConversionRequest(**FORMS[name]), path)
        return path

    return package


@pytest.fixture(scope="module", autouse=True)
def runtime(core_ai_folder: Path) -> Iterator[None]:
    """Apple's runtime, for every module here without an environment of its own."""
    with opinions.runtime(core_ai_folder):
        yield


def given(model: Any, steps: int, real: int, seed: int = 0) -> dict[str, np.ndarray]:
    """States, and features of so many steps, of which the first are real."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for name in model.inputs:
        if name == "input_node":
            made[name] = rng.standard_normal((1, steps, 19, 26)).astype(np.float32)
        elif name == "input_lengths":
            made[name] = np.array([real], np.int32)
        else:
            made[name] = (0.5 * rng.standard_normal((1, 256))).astype(np.float32)
    return made
