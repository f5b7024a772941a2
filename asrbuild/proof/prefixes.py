"""Awkward lengths for verification: prefixes of the sample.

For the first n windows of a recording, a causal network gives the first n rows of its output for
the whole recording, and the state at step n. So one run of the original on the sample, with its
states at every step, is the reference for every length. A network that is not causal is refused:
see ``coreml.signature.check_carried``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asrbuild.architectures.original import Result
from asrbuild.base.array import Array


def edge_cases(
    cases: Mapping[str, Array], lengths: Iterable[int], max_steps: int
) -> dict[str, Array]:
    """``steps_n`` -> the first n windows of the sample, (n, n_window, n_input).

    A length above ``max_steps`` or the sample's own is limited to it, as its name states:
    ``steps_636_of_3000``.
    """
    sample = cases["sample"]
    edges: dict[str, Array] = {}
    for steps in sorted(set(lengths)):
        kept = min(steps, max_steps, len(sample))
        edges[f"steps_{steps}" if kept == steps else f"steps_{kept}_of_{steps}"] = sample[:kept]
    return edges


def edge_reference(sample: Result, probabilities: str, steps: int) -> dict[str, Array]:
    """The results of a causal original for the first ``steps`` steps of the sample.

    Args:
        sample: its outputs for the whole sample, with the states after every step.
        probabilities: name of the output with a row for each step.

    Returns:
        The probabilities (steps, V), and the states after that step.
    """
    states = {
        name: rows[steps - 1].reshape(sample.outputs[name].shape)
        for name, rows in sample.steps.items()
    }
    return {probabilities: sample.outputs[probabilities][:steps], **states}
