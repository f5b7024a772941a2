"""Awkward lengths for verification: prefixes of the sample.

What a causal network gives for the first n windows of a recording is the first n rows of what it
gives for all of it, and the state after them is the state at step n. So one run of the original on
the sample, its states at every step kept, is the reference of every length. A network that is not
causal is refused: see ``coreml.signature.check_carried``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asrbuild.architectures.original import Result
from asrbuild.base.array import Array


def edge_cases(
    cases: Mapping[str, Array], lengths: Iterable[int], max_steps: int
) -> dict[str, Array]:
    """``steps_n`` -> the first n windows of the sample, (n, n_window, n_input).

    A length above ``max_steps`` or the sample's own is capped there, and its name says so:
    ``steps_636_of_3000``.
    """
    sample = cases["sample"]
    edges: dict[str, Array] = {}
    for steps in sorted(set(lengths)):
        kept = min(steps, max_steps, len(sample))
        edges[f"steps_{steps}" if kept == steps else f"steps_{kept}_of_{steps}"] = sample[:kept]
    return edges


def edge_reference(sample: Result, probabilities: str, steps: int) -> dict[str, Array]:
    """A causal original's results after the first ``steps`` steps of the sample.

    Args:
        sample: what it gave for all of it, its states after every step included.
        probabilities: name of the output with a row for each step.

    Returns:
        The probabilities (steps, V), and the states after that step.
    """
    states = {
        name: rows[steps - 1].reshape(sample.outputs[name].shape)
        for name, rows in sample.steps.items()
    }
    return {probabilities: sample.outputs[probabilities][:steps], **states}
