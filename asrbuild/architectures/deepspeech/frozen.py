"""Reads the weights of a frozen graph that DeepSpeech.py or asrbuild exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from asrbuild.architectures.deepspeech.export import build_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.graph_shape import graph_steps
from asrbuild.architectures.deepspeech.matching import check_same_network
from asrbuild.architectures.deepspeech.network import (
    NORM_VARIABLES,
    VARIABLES,
    AcousticWeights,
    weights_from_named,
)
from asrbuild.architectures.deepspeech.signature import OUTPUTS
from asrbuild.architectures.tensorflow.convertible import other_front_end
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.outputs import (
    placeholder_shape,
)
from asrbuild.architectures.tensorflow.proto import Graph, input_name
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.protobuf import WireError


def read_graph_weights(path: Path | str) -> AcousticWeights:
    """Reads the acoustic model's weights, as views of the mapped file.

    Raises:
        AsrbuildError: the file is not a whole graph, or not a DeepSpeech acoustic model.
    """
    return graph_weights(load_graph(path))


def graph_weights(graph: Graph) -> AcousticWeights:
    """The weights of a loaded graph, which must compute the DeepSpeech network and nothing else.

    Raises:
        AsrbuildError: a weight is missing, or the graph is another network; it names the node.
    """
    arrays: dict[str, Array] = {}
    for name in (*VARIABLES.values(), *NORM_VARIABLES):
        node = graph.by_name.get(name)
        if node is None:
            continue
        if node.op != "Const":
            raise AsrbuildError(
                f"{name} is not a constant: the graph computes it with {node.op}",
                file=graph.path,
                fix="export the graph with DeepSpeech, and do not quantise it afterwards",
            )
        try:
            arrays[name] = node.value
        except (WireError, KeyError) as error:
            raise AsrbuildError(f"constant {name}: {error}", file=graph.path) from error
    if not arrays:
        names = [node.name for node in graph.nodes if node.op == "Const" and _large(node.attrs)]
        keys = other_front_end(graph, OUTPUTS)
        raise AsrbuildError(
            "not a DeepSpeech graph: none of its weights (layer_1/weights and so on) is in it; "
            f"its constants are: {', '.join(names[:12]) or 'none'}",
            file=graph.path,
            fix="give the graph that DeepSpeech's --export_dir wrote"
            + (
                f"; another network with the same inputs and outputs is converted with {keys}"
                if keys
                else ""
            ),
        )
    weights = weights_from_named(arrays, file=None if graph.path is None else str(graph.path))
    steps = graph_steps(graph)
    batch, _, window, coefficients = placeholder_shape(graph, "input_node")
    flags = ExportFlags(
        n_steps=steps or -1,
        n_hidden=weights.n_hidden,
        batch_size=batch or 1,
        n_context=((window or 1) - 1) // 2,
        n_input=coefficients or 0,
        relu_clip=relu_clip(graph),
    )
    check_same_network(graph, build_graph(weights, flags, ()), weights.named().keys())
    return weights


def _large(attrs: Mapping[str, object]) -> bool:
    value = attrs.get("value")
    return value is not None and getattr(value, "nbytes", 0) >= 1024


def relu_clip(graph: Graph) -> float:
    """The limit of the clipped ReLU, the same in all four layers.

    Raises:
        AsrbuildError: the graph has none, or several that differ.
    """
    limits = {limit for _, limit in clip_nodes(graph)}
    if len(limits) != 1:
        keys = other_front_end(graph, OUTPUTS)
        raise AsrbuildError(
            f"expected one limit for the clipped ReLU, found {sorted(limits) or 'none'}",
            file=graph.path,
            fix=f"convert this graph with {keys}"
            if keys
            else "export it again with the code of DeepSpeech or Coqui STT",
        )
    return limits.pop()


def clip_nodes(graph: Graph) -> Iterator[tuple[str, float]]:
    """Yields the nodes that limit values from above by a constant, with their limits."""
    for node in graph.nodes:
        if node.op == "Relu6":
            yield node.name, 6.0
        if node.op == "Minimum":
            limits = (scalar_constant(graph, reference) for reference in node.inputs)
            yield from ((node.name, limit) for limit in limits if isinstance(limit, float))


def scalar_constant(graph: Graph, reference: str) -> float | int | None:
    """The value of an input that is a constant of one element, also through Identity; else None."""
    node = graph.by_name.get(input_name(reference))
    while node is not None and node.op == "Identity":
        node = graph.by_name.get(input_name(node.inputs[0]))
    if node is None or node.op != "Const":
        return None
    value = node.value
    return value.item() if value.size == 1 and value.dtype.kind in "fiu" else None
