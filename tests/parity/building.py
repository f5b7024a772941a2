"""Real packages for the tests: built from weights by the recipe's own road, run by the executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asrbuild import describe
from asrbuild.cases import RECORDINGS
from asrbuild.coreml.from_weights import convert_weights
from asrbuild.manifest import Manifest
from asrbuild.network import AcousticWeights
from asrbuild.recipe import Recipe
from asrbuild.source import locate

DEMO = Path(describe.__file__).parent / "demo"


def recipe_of(*overrides: str) -> Recipe:
    """A composed recipe, like the command line's."""
    from asrbuild.compose import compose_recipe

    return compose_recipe(list(overrides))


def build(folder: Path, weights: AcousticWeights, *overrides: str) -> Manifest:
    """Converts into ``folder`` and describes the package; the artifact directory is ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(*overrides)
    # Recordings and alphabet are the demo's; the weights come from the test.
    source = locate(recipe, folder)
    package = folder / describe.package_name(recipe)
    request = describe.conversion_request(recipe, source)
    convert_weights(weights, request, package, describe.geometry(recipe, weights))
    return describe.describe(recipe, source, package)


def recordings() -> dict[str, np.ndarray]:
    """The demo's recordings as float32 samples."""
    from asrbuild.speech.audio import read_audio

    return {name: read_audio(DEMO / f"{name}.wav", 16_000) for name in RECORDINGS}


def texts() -> dict[str, str]:
    """What is said in them."""
    return {name: (DEMO / f"{name}.txt").read_text().strip() for name in RECORDINGS}
