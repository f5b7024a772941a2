"""Awkward lengths for verification, at no cost in TensorFlow: they are prefixes of the sample.

The network is causal: what it gives for the first n windows of a recording is the first n rows of
what it gives for all of it, and the LSTM state after them is the state at step n. So one run of
the TensorFlow graph on the sample, its states at every step kept, is the reference of every length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asrbuild.architectures.deepspeech.reference import ReferenceOutput
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: ``BlockLSTM``'s outputs: ``cs`` (cell states) and ``h`` (outputs), one row a step.
_CELL_STATES, _HIDDEN_STATES = 1, 6


def state_nodes(graph: Path) -> tuple[str, str]:
    """The tensors that hold the LSTM's c and h after every step, (T, 1, H) each.

    Raises:
        AsrbuildError: the graph has no LSTM of the kind DeepSpeech exports, or several.
    """
    found = [node.name for node in load_graph(graph).nodes if node.op.startswith("BlockLSTM")]
    if len(found) != 1:
        raise AsrbuildError(
            f"the graph has {len(found)} BlockLSTM nodes; a DeepSpeech graph has one",
            file=graph,
            fix="export the model with DeepSpeech 0.6 to 0.9, or with asrbuild",
        )
    return f"{found[0]}:{_CELL_STATES}", f"{found[0]}:{_HIDDEN_STATES}"


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


def edge_reference(sample: ReferenceOutput, nodes: tuple[str, str], steps: int) -> dict[str, Array]:
    """What TensorFlow gives after the first ``steps`` steps of the sample.

    ``logits``: (steps, V); ``new_state_c`` and ``new_state_h``: (1, H).
    """
    cells, hidden = (_row(sample.nodes[node], steps - 1) for node in nodes)
    return {"logits": sample.logits[:steps], "new_state_c": cells, "new_state_h": hidden}


def _row(runs: Sequence[Array], row: int) -> Array:
    """One row, (1, H), of what several runs gave one after another."""
    for run in runs:
        if row < len(run):
            return run[row].reshape(1, -1)
        row -= len(run)
    raise IndexError(row)
