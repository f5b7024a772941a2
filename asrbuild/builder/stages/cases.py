"""The stage ``cases``: computes the proof's inputs, features of recordings and synthetic sounds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.builder.recipe import Recipe, StepsConfig, network_of
from asrbuild.builder.stage import Reads, Stage, View

if TYPE_CHECKING:
    from asrbuild.base.array import Array

CASES = "cases.npz"
#: The keys that decide the lengths of the inputs.
LENGTHS = ("n_steps", "verify.edge_lengths", "verify.max_steps")


def run(view: View, at: Path) -> None:
    """Writes ``cases.npz``: input -> features (T, n_window, n_input)."""
    import numpy as np

    from asrbuild.proof.cases import build_cases
    from asrbuild.speech.audio import read_audio

    settings = view.architecture.front_end(view.config).fed
    recordings = {
        name: read_audio(path, settings.sample_rate)
        for name, path in view.source.recordings.items()
    }
    cases = build_cases(settings, recordings, view.recipe.verify.inputs)
    with (at / CASES).open("wb") as file:
        np.savez(file, **cases)  # type: ignore[arg-type]


def read_cases(folder: Path) -> dict[str, Array]:
    """The cases that this stage wrote: input -> features (T, n_window, n_input)."""
    import numpy as np

    with np.load(folder / CASES, allow_pickle=False) as stored:
        return dict(stored)


def with_edges(
    cases: dict[str, Array], axes: Iterable[StepsConfig], n_steps: int, max_steps: int | None
) -> dict[str, Array]:
    """All inputs of a package's proof: the cases, then the sample at awkward lengths.

    Args:
        cases: input -> features (T, n_window, n_input).
        axes: the axis of time of each function of the package.
        n_steps: a length; for a range, its neighbours are awkward lengths.
        max_steps: the greatest awkward length; None: no such inputs.
    """
    from asrbuild.proof.cases import edge_lengths
    from asrbuild.proof.prefixes import edge_cases

    if max_steps is None:
        return cases
    lengths: set[int] = set()
    for steps in axes:
        ranged = steps.kind == "range"
        lengths |= set(
            edge_lengths(
                n_steps if ranged else steps.default,
                steps.sizes,
                steps.lower if ranged else None,
                steps.upper if ranged else None,
            )
        )
    return cases | edge_cases(cases, lengths, max_steps)


def all_cases(view: View) -> dict[str, Array]:
    """Input -> features (T, n_window, n_input), for the cases and the sample at awkward lengths."""
    model = view.recipe.model
    axes = model.functions.values() or [model.steps]
    cases = read_cases(view.folder("cases"))
    signature = view.architecture.signature(view.config)
    chunk = view.recipe.n_steps or 0
    if signature.context.trimmed:
        chunk = model.steps.default or 0
    found = with_edges(cases, axes, chunk, longest(view))
    if not signature.context.trimmed:
        return found
    around = signature.context.left + signature.context.right
    return {name: case for name, case in found.items() if signature.rows.of(len(case) + around)}


def longest(view: View) -> int | None:
    """Steps of the longest input that is made for a proof; None if none is made.

    ``verify.max_steps`` counts steps of 20 ms, even if the package takes samples.
    """
    from asrbuild.coreml.signature import SAMPLES

    verify, architecture = view.recipe.verify, view.architecture
    if not verify.edge_lengths:
        return None
    if architecture.signature(view.config).time == SAMPLES:
        rate: int = architecture.front_end(view.config).settings.sample_rate
        return verify.max_steps * rate // 50
    return verify.max_steps


def _reads(recipe: Recipe) -> Reads:
    return (*network_of(recipe)[0].FEATURE_KEYS, "verify.inputs")


STAGE = Stage(
    name="cases",
    title="features of the verification inputs",
    run=run,
    calls=("front_end",),
    reads=_reads,
    files=("recordings",),
    libraries=("numpy", "soundfile", "soxr"),
)
