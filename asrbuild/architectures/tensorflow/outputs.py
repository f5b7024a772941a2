"""Checks requested outputs against a frozen graph, before anything heavy starts."""

from __future__ import annotations

from collections.abc import Iterable

from asrbuild.architectures.tensorflow.proto import Graph, Node, Shape, input_name
from asrbuild.base.errors import AsrbuildError


def input_nodes(graph: Graph) -> list[Node]:
    """The placeholders, in file order."""
    return [node for node in graph.nodes if node.op == "Placeholder"]


def output_nodes(graph: Graph) -> list[Node]:
    """The nodes that no node reads, without metadata, in file order."""
    read = {input_name(reference) for node in graph.nodes for reference in node.inputs}
    return [node for node in graph.nodes if node.name not in read and not is_metadata(node)]


def is_metadata(node: Node) -> bool:
    """Whether a node is metadata: a constant with a fact for clients."""
    return node.op == "Const" and node.name.startswith("metadata_")


def check_outputs(graph: Graph, names: Iterable[str], *, key: str = "model.outputs") -> None:
    """Raises unless every requested output is a node of the graph.

    Raises:
        AsrbuildError: it lists the graph's outputs.
    """
    missing = [name for name in names if input_name(name) not in graph.by_name]
    if missing:
        offered = [node.name for node in output_nodes(graph)]
        raise AsrbuildError(
            f"the graph has no output {', '.join(missing)}",
            key=key,
            file=graph.path,
            fix=f"its outputs are: {', '.join(offered) or 'none'}",
        )


def placeholder_shape(graph: Graph, name: str) -> tuple[int | None, ...]:
    """The declared shape of an input; None for an open dimension.

    Raises:
        AsrbuildError: the graph has no such input, or its rank is unknown.
    """
    node = graph.by_name.get(name)
    if node is None or node.op != "Placeholder":
        offered = [node.name for node in input_nodes(graph)]
        below = next((own for own in offered if own.endswith(f"/{name}")), None)
        raise AsrbuildError(
            f"the graph has no input {name}; its inputs are: {', '.join(offered) or 'none'}",
            file=graph.path,
            fix="give the graph that DeepSpeech's --export_dir wrote"
            if below is None
            else f"its names begin with {below.removesuffix(name)}: import it with "
            "tf.import_graph_def(graph, name='') and save it again",
        )
    shape = node.attrs.get("shape")
    if not isinstance(shape, Shape) or shape.dims is None:
        raise AsrbuildError(f"the graph's input {name} has no declared shape", file=graph.path)
    return shape.dims
