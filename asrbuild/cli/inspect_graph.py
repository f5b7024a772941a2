"""``asrbuild inspect graph``: the inputs, outputs, operations and weights of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import JsonOption

if TYPE_CHECKING:
    from asrbuild.architectures.tensorflow.inspect import GraphSummary


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
    )
    if not summary.frozen:
        first, *more = summary.variables
        others = f" and {len(more)} more" if more else ""
        console.print(
            f"not frozen: {first}{others} hold variables, whose values are in a checkpoint; "
            "freeze the graph with it before a build",
            style="yellow",
        )
    for title, ports in (("Inputs", summary.inputs), ("Outputs", summary.outputs)):
        table = folding(title, "name", "type", "shape", "operation")
        for port in ports:
            table.add_row(port.name, port.dtype, str(Shape(port.shape)), port.op)
        show(table)
    if summary.metadata:
        table = folding("Metadata", "name", "value")
        for item in summary.metadata:
            value = item.value
            if isinstance(value, list):
                value = f"{len(value)} labels: " + " ".join(repr(label) for label in value)
            table.add_row(item.name, f"{value} {item.unit or ''}".strip())
        show(table)
    if summary.functions:
        table = folding("Functions", "name", "nodes")
        for name, nodes in summary.functions.items():
            table.add_row(name, str(nodes))
        show(table)
    if summary.unconvertible:
        table = folding("No Core ML form", "operation", "count", "first node", "needed by")
        for kind in summary.unconvertible:
            table.add_row(kind.op, str(kind.count), kind.node, ", ".join(kind.outputs))
        show(table)
    if summary.unconvertible and summary.cuts:
        from asrbuild.architectures.tensorflow.cutting import typed

        table = folding("Cuts", "tensor", "key")
        for tensor in summary.cuts:
            cut = f"source.config.cut=[{typed(tensor)}]"
            pin = f"+source.config.pin={{{typed(tensor)}: 16000}}"
            # A node's tensors after the first have a number, such as the sample rate of DecodeWav.
            table.add_row(tensor, pin if ":" in tensor else cut)
        show(table)
    table = folding("Operations", "operation", "count")
    for op, count in summary.ops.items():
        table.add_row(op, str(count))
    show(table)
