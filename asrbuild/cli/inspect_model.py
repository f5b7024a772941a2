"""``asrbuild inspect model``: the inputs, outputs, operations and weights of a package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show, show_rows
from asrbuild.cli.options import ArtifactsOption, JsonOption
from asrbuild.cli.packages import PackageArgument, opened_package
from asrbuild.coreml.choices import ASSET

if TYPE_CHECKING:
    from asrbuild.coreml.inspect import FunctionSummary, ModelSummary


def inspect_model(
    model: PackageArgument,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a Core ML package's inputs, outputs, operations, weights and metadata.

    Needs neither coremltools' converters nor a Mac. A flexible axis is shown as 1..100, or as 1..
    where it has no upper bound.

    Examples:
        asrbuild inspect model demo-static-mlprogram
    """
    from asrbuild.coreml.inspect import inspect_model as read_summary
    from asrbuild.handover.ship.opening import opened_as

    with opened_package(model, artifacts) as package:
        shown = f"{opened_as(model, package.parent)}/{package.name}".removeprefix("./")
        if package.suffix == f".{ASSET}":
            _show_asset(package, shown, as_json)
            return
        summary = replace(read_summary(package), path=shown)
    if as_json:
        terminal.say_json(summary.as_dict())
    else:
        _print_tables(summary)


def _show_asset(asset: Path, shown: str, as_json: bool) -> None:
    """Shows Core AI's description of an ``.aimodel``; composites count with their parts."""
    from asrbuild.coreai.asset import inspect

    found = inspect(asset)
    if as_json:
        terminal.say_json({"path": shown, "kind": ASSET, **found})
        return
    console = terminal.console()
    stored = ", ".join(f"{count:,} {name}" for name, count in found["storage_types"].items())
    console.print(
        f"{shown}: Core AI asset by {found['producer']}, {sum(found['files'].values()):,} bytes",
        f"runs on iOS, macOS {found['minimum_os']} and later; values: {stored}",
        f"computes in {', '.join(found['compute_types'])}",
        sep="\n",
        soft_wrap=not terminal.is_terminal(),
    )
    for name, function in found["functions"].items():
        rows = [
            *(("in", *item) for item in function["inputs"]),
            *(("out", *item) for item in function["outputs"]),
            *(("state", *item) for item in function["states"].items()),
        ]
        show_rows(f"Function {name}", ("", "name", "type"), rows)
    show_rows("Operations", ("operation", "count"), found["ops"].items())
    stated = {key: found[key] for key in ("author", "license", "description") if found[key]}
    show_rows("Metadata", ("name", "value"), (stated | found["values"]).items())


def _print_tables(summary: ModelSummary) -> None:
    console = terminal.console()
    _print_model(summary)
    for number, part in enumerate(summary.parts, 1):
        console.print(f"\nPart {number} of {len(summary.parts)}", style="bold")
        _print_model(part)


def _print_model(summary: ModelSummary) -> None:
    console = terminal.console()
    weights = ", ".join(f"{size:,} bytes {dtype}" for dtype, size in summary.weight_bytes.items())
    stored = "".join(f", {count} x {how}" for how, count in summary.compression.items())
    because = ", ".join(summary.minimum_os_reasons)
    console.print(
        f"{summary.path}: {summary.kind}, {summary.nbytes:,} bytes "
        f"(weights: {weights or 'none'}{stored})",
        f"specification version {summary.specification_version}: {summary.minimum_os} and later, "
        + (
            f"for {because}"
            if because
            else "set by its deployment target; no part of it requires more"
        ),
        sep="\n",
        soft_wrap=not terminal.is_terminal(),
    )
    if summary.labels:
        console.print(f"{len(summary.labels)} classes: {' '.join(map(repr, summary.labels))}")
    for function in summary.functions:
        if len(summary.functions) > 1:
            default = " (default)" * (function.name == summary.default_function)
            console.print(f"\nFunction {function.name}{default}")
        _print_function(function)
    fields = {name: text for name, text in summary.metadata.items() if text}
    show_rows("Metadata", ("name", "value"), (fields | summary.user_metadata).items())


def _print_function(function: FunctionSummary) -> None:
    kinds = ("Inputs", function.inputs), ("Outputs", function.outputs), ("States", function.states)
    for title, features in kinds:
        rows = []
        for item in features:
            flexible = item.shapes is not None or any(low != high for low, high in item.axes or ())
            default = str(item.default) if flexible else ""
            if item.optional_value is not None:
                default = f"{default} optional, {item.optional_value:g} if absent".strip()
            elif item.optional:
                default = f"{default} optional".strip()
            rows.append((item.name, item.dtype, item.shape_text, default))
        show_rows(title, ("name", "type", "shape", "default"), rows)
    if not function.ops:
        return
    table = folding("Operations", "operation", "count", "in loops")
    for op, count in function.ops.items():
        table.add_row(op, str(count), str(function.ops_in_loops.get(op, "")))
    table.add_row("total", str(sum(function.ops.values())), "", style="bold")
    show(table)
