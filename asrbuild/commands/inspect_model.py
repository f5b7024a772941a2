"""``asrbuild inspect model``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild import terminal
from asrbuild.commands.ls import ArtifactsOption
from asrbuild.commands.packages import PackageArgument, opened_package
from asrbuild.commands.tables import folding

if TYPE_CHECKING:
    from asrbuild.coreml.inspect import FunctionSummary, ModelSummary


def inspect_model(
    model: PackageArgument,
    artifacts: ArtifactsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show a Core ML package's inputs, outputs, operations, weights and metadata.

    Needs neither coremltools' converters nor a Mac. A flexible axis is shown as 1..100, or as 1..
    where it has no upper bound.

    Examples: asrbuild inspect model model.mlpackage --json |
    asrbuild inspect model demo-static-mlprogram
    """
    from asrbuild.coreml.inspect import inspect_model as read_summary
    from asrbuild.ship.opening import opened_as

    with opened_package(model, artifacts) as package:
        shown = f"{opened_as(model, package.parent)}/{package.name}".removeprefix("./")
        summary = replace(read_summary(package), path=shown)
    if as_json:
        terminal.say_json(summary.as_dict())
    else:
        _print_tables(summary)


def _print_tables(summary: ModelSummary) -> None:

    console = terminal.console()
    weights = ", ".join(f"{size:,} bytes {dtype}" for dtype, size in summary.weight_bytes.items())
    console.print(
        f"{summary.path}: {summary.kind}, {summary.nbytes:,} bytes (weights: {weights or 'none'})",
        f"specification version {summary.specification_version}: {summary.minimum_os} and later",
        sep="\n",
        highlight=False,
    )
    for function in summary.functions:
        if len(summary.functions) > 1:
            default = " (default)" * (function.name == summary.default_function)
            console.print(f"\nFunction {function.name}{default}", highlight=False)
        _print_function(console, function)
    fields = {name: text for name, text in summary.metadata.items() if text}
    if fields or summary.user_metadata:
        table = folding("Metadata", "name", "value")
        for name, text in (fields | summary.user_metadata).items():
            table.add_row(name, text)
        console.print(table)


def _print_function(console, function: FunctionSummary) -> None:  # type: ignore[no-untyped-def]

    kinds = ("Inputs", function.inputs), ("Outputs", function.outputs), ("States", function.states)
    for title, features in kinds:
        if not features:
            continue
        table = folding(title, "name", "type", "shape", "default")
        for item in features:
            flexible = item.shapes is not None or any(low != high for low, high in item.axes or ())
            default = str(item.default) if flexible else ""
            table.add_row(item.name, item.dtype, item.shape_text, default)
        console.print(table)
    table = folding("Operations", "operation", "count", "in loops")
    for op, count in function.ops.items():
        table.add_row(op, str(count), str(function.ops_in_loops.get(op, "")))
    table.add_row("total", str(sum(function.ops.values())), "", style="bold")
    console.print(table)
