"""The stage ``calls``: runs the original in the same calls as the package, as the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe, network_of
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.cases import all_cases, longest
from asrbuild.builder.stages.execute import EXECUTED, package_manifest
from asrbuild.builder.stages.export import original, thread_modules
from asrbuild.builder.stages.reference import REFERENCE, reference_libraries

if TYPE_CHECKING:
    from asrbuild.base.array import Array
    from asrbuild.builder.sources import Source


def run(view: View, at: Path) -> None:
    """Writes ``reference.npz``: the original's outputs for the calls of the package.

    The original runs in a process of its own.
    """
    from asrbuild.architectures.original import save_cases
    from asrbuild.proof.calls import original_calls

    calls = at / "calls.npz"
    save_cases(calls, original_calls(package_manifest(view), all_cases(view), longest(view)))
    view.architecture.start(original(view), view.config, calls, at / REFERENCE).wait()
    calls.unlink()


def read_calls(view: View) -> dict[str, dict[str, Array]]:
    """Way to run an input -> output -> value, as :mod:`asrbuild.proof.calls` names them."""
    from asrbuild.proof.calls import original_outputs

    results = view.architecture.read(view.folder(STAGE.name) / REFERENCE)
    return original_outputs(package_manifest(view), all_cases(view), longest(view), results)


def _needed(recipe: Recipe, source: Source) -> bool:
    del source
    return network_of(recipe)[0].CALLS


def _threaded(recipe: Recipe) -> tuple[str, ...]:
    return (*thread_modules(recipe), "asrbuild.proof.calls", "asrbuild.builder.describe")


STAGE = Stage(
    name="calls",
    title="{runtime} on the {format}, in the calls of the package",
    run=run,
    calls=("original", "exported", "start", "signature", "front_end", "card"),
    reads=EXECUTED,
    files=("model",),
    after=("export", "cases", "convert"),
    libraries=reference_libraries,
    needed=_needed,
    threaded=_threaded,
)
