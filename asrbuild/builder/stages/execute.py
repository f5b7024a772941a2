"""The package, executed on the verification inputs and at awkward lengths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.cases import read_cases, with_edges
from asrbuild.builder.stages.convert import conversion

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.base.array import Array


def run(view: View, at: Path) -> None:
    """Writes the package's outputs on every input, and which executors made them."""
    from asrbuild.coreml.executor.threads import one_thread
    from asrbuild.proof.execution import execute, save_executed

    with one_thread():
        executed = execute(
            view.folder("convert"), package_manifest(view), all_cases(view), longest(view)
        )
    save_executed(at, executed)


def package_manifest(view: View) -> Manifest:
    """The manifest as far as it is known before a proof."""
    from asrbuild.builder.conversion import package_name
    from asrbuild.builder.describe import describe_package

    package = view.folder("convert") / package_name(view.recipe.coreml.format)
    manifest = describe_package(conversion(view), package)
    units = view.fact(core_ml_units)
    if units is None:
        return manifest
    model = manifest.model.model_copy(update={"recommended_compute_units": units})
    return manifest.model_copy(update={"model": model})


def all_cases(view: View) -> dict[str, Array]:
    """Input -> features (T, n_window, n_input): the cases, then the sample at awkward lengths."""
    model = view.recipe.model
    axes = model.functions.values() or [model.steps]
    cases = read_cases(view.folder("cases"))
    return with_edges(cases, axes, view.recipe.n_steps or 0, longest(view))


def longest(view: View) -> int | None:
    """Steps of the longest input that is made for a proof; None where none is.

    ``verify.max_steps`` counts steps of 20 ms, also where the package takes samples.
    """
    from asrbuild.coreml.signature import SAMPLES

    verify, architecture = view.recipe.verify, view.architecture
    if not verify.edge_lengths:
        return None
    if architecture.signature(view.config).time == SAMPLES:
        rate: int = architecture.front_end(view.config).settings.sample_rate
        return verify.max_steps * rate // 50
    return verify.max_steps


def core_ml_units(recipe: Recipe) -> str | None:
    """The compute units where Core ML runs the package too, on macOS; else None."""
    return recipe.coreml.compute_units if sys.platform == "darwin" else None


#: What decides the inputs that a package is run on, and how.
EXECUTED = ("n_steps", "verify.edge_lengths", "verify.max_steps", core_ml_units)
STAGE = Stage(
    name="execute",
    title="package executed on the verification inputs",
    run=run,
    calls=("signature", "front_end", "card"),
    reads=EXECUTED,
    after=("convert", "cases"),
    libraries=("numpy",),
)
