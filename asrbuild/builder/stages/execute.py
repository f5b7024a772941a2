"""The stage ``execute``: runs the package on the proof's inputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.cases import LENGTHS, all_cases, longest
from asrbuild.builder.stages.convert import conversion

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest


def run(view: View, at: Path) -> None:
    """Writes the package's outputs for every input, and the executors that made them."""
    from asrbuild.coreml.executor.threads import one_thread
    from asrbuild.proof.execution import execute, save_executed

    with one_thread():
        executed = execute(
            view.folder("convert"), package_manifest(view), all_cases(view), longest(view)
        )
    save_executed(at, executed)


def package_manifest(view: View) -> Manifest:
    """The part of the manifest that is known before the proof."""
    from asrbuild.builder.conversion import package_name
    from asrbuild.builder.describe import describe_package

    package = view.folder("convert") / package_name(view.recipe.coreml.format)
    manifest = describe_package(conversion(view), package)
    units = view.fact(core_ml_units)
    if units is None:
        return manifest
    model = manifest.model.model_copy(update={"recommended_compute_units": units})
    return manifest.model_copy(update={"model": model})


def core_ml_units(recipe: Recipe) -> str | None:
    """The compute units for Core ML's own run of the package, on macOS; None elsewhere."""
    return recipe.coreml.compute_units if sys.platform == "darwin" else None


#: The keys that decide the inputs and the calls of a package.
EXECUTED = (*LENGTHS, core_ml_units)
STAGE = Stage(
    name="execute",
    title="package executed on the verification inputs",
    run=run,
    calls=("signature", "front_end", "card"),
    reads=EXECUTED,
    after=("convert", "cases"),
    libraries=("numpy",),
)
