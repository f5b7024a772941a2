"""The steps of a DeepSpeech graph, and the check against those of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asrbuild.architectures.deepspeech.signature import INPUT_NODE
from asrbuild.architectures.tensorflow.outputs import placeholder_shape
from asrbuild.architectures.tensorflow.proto import Graph
from asrbuild.base.errors import AsrbuildError


def graph_steps(graph: Graph, name: str = INPUT_NODE) -> int | None:
    """The steps of a call of a DeepSpeech graph; None: any number."""
    dims = placeholder_shape(graph, name)
    if len(dims) != 4:
        raise AsrbuildError(
            f"the graph's input {name} has {len(dims)} dimensions, expected 4 "
            "(batch, time, window, coefficients)",
            file=graph.path,
        )
    return dims[1]


def check_input_shape(
    graph: Graph, name: str, asked: Sequence[int | None], *, key: str = "model.steps"
) -> None:
    """Checks a requested shape (None: flexible) against the graph's own.

    Raises:
        AsrbuildError: a fixed dimension of the graph is requested as another size or as flexible.
    """
    own = placeholder_shape(graph, name)
    if len(own) != len(asked):
        raise AsrbuildError(
            f"the graph's {name} has {len(own)} dimensions, asked {len(asked)}",
            key=key,
            file=graph.path,
        )
    for axis, (have, want) in enumerate(zip(own, asked, strict=True)):
        if have is None or have == want:
            continue
        unit = "steps" if axis == 1 and len(own) == 4 else f"in dimension {axis} of {name}"
        wanted = "any number" if want is None else str(want)
        raise AsrbuildError(
            f"the graph is static at {have} {unit}, asked {wanted}",
            key=key,
            file=graph.path,
            fix="export it with n_steps=-1 to choose the shape at conversion",
        )


def check_steps(graph: Graph, steps: Iterable[int | None], *, key: str = "model.steps") -> None:
    """Checks requested numbers of steps (None: any) against a DeepSpeech graph."""
    own = placeholder_shape(graph, INPUT_NODE)
    for asked in steps:
        check_input_shape(graph, INPUT_NODE, (own[0], asked, *own[2:]), key=key)
