"""Small packages of one network, in the forms of recipes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.manifest import Manifest
from tests.proof import building

HIDDEN = 24
FORMS = {
    "fixed": ("model=static", "n_steps=5"),
    "range": ("model=dynamic",),
    "loop": ("model=static", "n_steps=5", "coreml.lstm=loop"),
    "network": ("model=dynamic", "coreml=neuralnetwork"),
    "stateful": ("model=static", "n_steps=5", "coreml.state=stateful"),
    "unrolled": ("model=dynamic_to_static", "n_steps=5", "coreml.lstm=unrolled"),
}


@dataclass(frozen=True)
class Form:
    """A package that was built with these overrides, and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def package(self) -> Path:
        return self.folder / self.manifest.model.package


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Form]:
    root, weights = tmp_path_factory.mktemp("forms"), random_weights(HIDDEN, seed=1)
    return {
        name: Form(root / name, building.build(root / name, weights, *overrides))
        for name, overrides in FORMS.items()
    }
