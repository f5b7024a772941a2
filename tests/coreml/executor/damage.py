"""Changes of packages, and the error that a damaged package must give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import Model, load
from asrbuild.coreml.executor.package import read_spec
from tests.coreml.executor.recipes import case

HIDDEN = 8
STEPS = 3
WEIGHTS = random_weights(HIDDEN)
FORMS: dict[str, dict[str, Any]] = {
    "native.mlpackage": {"precision": "fp16", "deployment_target": "iOS17"},
    "stateful.mlpackage": {"state": "stateful", "deployment_target": "iOS18"},
    "loop.mlpackage": {"lstm": "loop"},
    "native.mlmodel": {"format": "neuralnetwork", "precision": "fp32"},
    "loop.mlmodel": {"format": "neuralnetwork", "precision": "fp32", "lstm": "loop"},
}


def inputs(model: Model) -> dict[str, np.ndarray]:
    windows, c, h = case(HIDDEN, STEPS)
    given = {
        "input_node": windows,
        "input_lengths": np.array([STEPS], np.int32),
        "previous_state_c": c,
        "previous_state_h": h,
    }
    return given if not model.states else {n: given[n] for n in ("input_node", "input_lengths")}


def copy_of(package: Path, folder: Path) -> Path:
    copy = folder / package.name
    if copy.is_dir():
        shutil.rmtree(copy)
    (shutil.copytree if package.is_dir() else shutil.copy)(package, copy)
    return copy


def spec_of(package: Path) -> Path:
    return package / "Data/com.apple.CoreML/model.mlmodel" if package.is_dir() else package


def predict(model: Model, given: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    state = model.make_state() if model.states else None
    return model.predict(inputs(model) if given is None else given, state)


def change(package: Path, edit: Any) -> None:
    spec = read_spec(package)
    edit(spec)
    spec_of(package).write_bytes(spec.SerializeToString())


def refused(package: Path, message: str, given: dict[str, Any] | None = None) -> None:
    with pytest.raises(AsrbuildError, match=message) as caught:
        predict(load(package), given)
    assert caught.value.fix
