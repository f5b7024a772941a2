"""Checks what is asked of a frozen graph against what is in it, before anything heavy starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asrbuild.architectures.tensorflow.proto import Graph, Node, Shape, input_name
from asrbuild.base.errors import AsrbuildError

DEFAULT_OUTPUTS = ("logits", "new_state_c", "new_state_h")


def input_nodes(graph: Graph) -> list[Node]:
    """The placeholders, in file order."""
    return [node for node in graph.nodes if node.op == "Placeholder"]


def output_nodes(graph: Graph) -> list[Node]:
    """The nodes that nothing reads, metadata left out, in file order."""
    read = {input_name(reference) for node in graph.nodes for reference in node.inputs}
    return [node for node in graph.nodes if node.name not in read and not is_metadata(node)]


def is_metadata(node: Node) -> bool:
    """One of the constants that tell a client about the model."""
    return node.op == "Const" and node.name.startswith("metadata_")


def check_outputs(graph: Graph, names: Iterable[str], *, key: str = "model.outputs") -> None:
    """Checks that every asked output is a node of the graph.

    Raises:
        AsrbuildError: listing what the graph offers.
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
    """The declared shape of an input; None for a dimension that is free.

    Raises:
        AsrbuildError: no such input, or its rank is unknown.
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


def graph_steps(graph: Graph, name: str = "input_node") -> int | None:
    """Time steps a DeepSpeech graph takes at once; None for any number."""
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
    """Checks an asked shape (None: flexible) against the graph's own.

    Raises:
        AsrbuildError: a fixed dimension of the graph is asked to be another, or flexible.
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
    """Checks asked step counts (None: any) of a DeepSpeech graph's ``input_node``."""
    own = placeholder_shape(graph, "input_node")
    for asked in steps:
        check_input_shape(graph, "input_node", (own[0], asked, *own[2:]), key=key)
