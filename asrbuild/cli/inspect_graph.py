"""``asrbuild inspect graph``: the inputs, outputs, operations and weights of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import show_rows
from asrbuild.cli.options import JsonOption

if TYPE_CHECKING:
    from asrbuild.architectures.tensorflow.inspect import GraphSummary, Metadata


def inspect_graph(
    graph: Annotated[
        Path, typer.Argument(help="A TensorFlow graph: output_graph.pb, .pbmm or .tflite.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Show a graph's inputs, outputs, metadata, operations and the types of its weights.

    Runs no TensorFlow. A dimension shown as ? is free; a shape shown as unknown is not declared in
    the graph, as those of most outputs. Also shows whether the graph is frozen, its functions,
    and the operations that have no Core ML form.

    Examples:
        asrbuild inspect graph output_graph.pb --json
    """
    from asrbuild.base.kinds.recognition import recognise

    if recognise(graph).key == "tflite":
        from asrbuild.architectures.deepspeech.lite_summary import inspect_lite as read_summary
    else:
        from asrbuild.architectures.tensorflow.inspect import inspect_graph as read_summary
    summary = read_summary(graph)
    if as_json:
        terminal.say_json(summary.as_dict())
    else:
        _print_tables(summary)


def _print_tables(summary: GraphSummary) -> None:
    from asrbuild.architectures.tensorflow.proto import Shape

    console = terminal.console()
    stored = ", ".join(f"{count:,} {kind}" for kind, count in summary.stored.items())
    console.print(
        f"{summary.path}: {summary.nbytes:,} bytes, {summary.parameters:,} parameters"
        f"{f' ({stored})' if stored else ''}, {sum(summary.ops.values())} nodes",
        soft_wrap=not terminal.is_terminal(),
    )
    if not summary.frozen:
        first, *more = summary.variables
        others = f" and {len(more)} more" if more else ""
        console.print(
            f"not frozen: {first}{others} hold variables, whose values are in a checkpoint; "
            "freeze the graph with it before a build",
            style="yellow",
            soft_wrap=not terminal.is_terminal(),
        )
    for title, ports in (("Inputs", summary.inputs), ("Outputs", summary.outputs)):
        rows = ((port.name, port.dtype, Shape(port.shape), port.op) for port in ports)
        show_rows(title, ("name", "type", "shape", "operation"), rows)
    show_rows("Metadata", ("name", "value"), map(_metadata, summary.metadata))
    show_rows("Functions", ("name", "nodes"), summary.functions.items())
    refused = (
        (kind.op, kind.count, kind.node, ", ".join(kind.outputs)) for kind in summary.unconvertible
    )
    headings = ("operation", "count", "first node", "needed by")
    show_rows("No Core ML form", headings, refused)
    if summary.unconvertible:
        show_rows("Cuts", ("tensor", "key"), map(_cut, summary.cuts))
    show_rows("Operations", ("operation", "count"), summary.ops.items())


def _metadata(item: Metadata) -> tuple[str, str]:
    value = item.value
    if isinstance(value, list):
        value = f"{len(value)} labels: " + " ".join(repr(label) for label in value)
    return item.name, f"{value} {item.unit or ''}".strip()


def _cut(tensor: str) -> tuple[str, str]:
    """A tensor to cut the graph at, and its key."""
    from asrbuild.architectures.tensorflow.cutting import typed

    # A node's tensors after the first have a number, such as the sample rate of DecodeWav.
    if ":" in tensor:
        return tensor, f"+source.config.pin={{{typed(tensor)}: 16000}}"
    return tensor, f"source.config.cut=[{typed(tensor)}]"
