"""The stage ``reference``: computes the original's outputs for the proof's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe, network_of
from asrbuild.builder.stage import Reads, Stage, View
from asrbuild.builder.stages.cases import CASES, LENGTHS, all_cases
from asrbuild.builder.stages.export import original, thread_modules

if TYPE_CHECKING:
    from asrbuild.architectures.architecture import Architecture
    from asrbuild.base.array import Array
    from asrbuild.builder.sources import Source
    from asrbuild.coreml.signature import Signature

REFERENCE, EVERY_CASE = "reference.npz", "every_case.npz"


def run(view: View, at: Path) -> None:
    """Writes ``reference.npz``: the original's outputs, with the states after every step.

    The original runs in a process of its own.
    """
    cases = view.folder("cases") / CASES
    if not view.architecture.signature(view.config).context.causal:
        # Rows depend on later steps, so a prefix has other rows: each length runs on its own.
        from asrbuild.architectures.original import save_cases

        cases = at / EVERY_CASE
        save_cases(cases, all_cases(view))
    view.architecture.start(original(view), view.config, cases, at / REFERENCE).wait()


def read_reference(
    folder: Path, cases: Mapping[str, Array], architecture: Architecture, signature: Signature
) -> dict[str, dict[str, Array]]:
    """Input -> output -> value, for the cases and the awkward lengths."""
    from asrbuild.proof.prefixes import edge_reference

    results = architecture.read(folder / REFERENCE)
    return {
        name: dict(results[name].outputs)
        if name in results
        else edge_reference(results["sample"], signature.probabilities, len(features))
        for name, features in cases.items()
    }


def reference_libraries(recipe: Recipe) -> tuple[str, ...]:
    """Distributions whose versions shape the original's outputs."""
    return network_of(recipe)[0].LIBRARIES.get("reference", ())


def _once(recipe: Recipe, source: Source) -> bool:
    """Whether the original takes a recording in one call, and not in the calls of the package."""
    del source
    return not network_of(recipe)[0].CALLS


def _reads(recipe: Recipe) -> Reads:
    """The keys of the features, and of the lengths if the network is not causal."""
    found, config = network_of(recipe)
    causal = found.signature(config).context.causal
    return (*found.FEATURE_KEYS, *(() if causal else ("model.steps", "model.functions", *LENGTHS)))


def _threaded(recipe: Recipe) -> tuple[str, ...]:
    own = "asrbuild.proof.cases", "asrbuild.proof.prefixes", "asrbuild.speech.mfcc"
    return (*thread_modules(recipe), *own)


STAGE = Stage(
    name="reference",
    title="{runtime} on the {format}",
    run=run,
    reads=_reads,
    calls=("original", "exported", "signature", "front_end", "start"),
    files=("model",),
    after=("export", "cases"),
    needed=_once,
    libraries=reference_libraries,
    threaded=_threaded,
)
