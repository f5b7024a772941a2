"""``asrbuild inspect FILE``: shows the kind and content of a model's file, and drafts a recipe."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.tables import show_rows
from asrbuild.cli.options import JsonOption

if TYPE_CHECKING:
    from asrbuild.architectures.onnx.inspect import OnnxSummary
    from asrbuild.base.kinds.table import Kind

_GRAPHS = ("graph", "graph-unfrozen", "pbmm", "tflite")
#: Kind -> the module that drafts a recipe.
_DRAFTS = {
    "onnx": "onnx",
    "graph": "tensorflow_graph",
    "pbmm": "tensorflow_graph",
    "saved-model": "tensorflow_graph",
    "pytorch": "torch_export",
    "pytorch-exported": "torch_export",
}
_PACKAGES = ("mlmodel", "mlpackage")


def inspect_file(
    file: Annotated[Path, typer.Argument(help="A model in any form: it is known by its content.")],
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Write a draft of a recipe for a model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a file holds; `asrbuild inspect FILE` is the same.

    Of an ONNX model: inputs with the roles that they seem to have, outputs, operations, weights,
    and what has no Core ML form. With --recipe, of TensorFlow graphs, SavedModels and PyTorch files
    too, a config file with all that the model and a run of it tell, and ??? for the rest.

    Examples:
        asrbuild inspect demo:conv/model.onnx
        asrbuild inspect demo:conv/model.onnx --recipe
    """
    from asrbuild.base.kinds.recognition import recognise

    kind = recognise(file)
    if recipe:
        _print_recipe(file, kind)
    elif kind.key in _GRAPHS:
        from asrbuild.cli.inspect_graph import inspect_graph

        inspect_graph(file, as_json)
    elif kind.key in _PACKAGES:
        from asrbuild.cli.inspect_model import inspect_model

        inspect_model(str(file), None, as_json)
    elif kind.key == "checkpoint":
        from asrbuild.cli.inspect_source import inspect_source

        inspect_source([str(file)], None, as_json)
    elif kind.key != "onnx":
        fix = f"write its recipe with `asrbuild inspect {file} --recipe`"
        if kind.key not in _DRAFTS:
            fix = kind.instead.replace("{file}", str(file)) or "give a model"
        raise AsrbuildError(
            f"the file is {kind.what}, and no model that asrbuild can show", file=file, fix=fix
        )
    else:
        from asrbuild.architectures.onnx.inspect import inspect_onnx

        summary = inspect_onnx(file)
        if as_json:
            terminal.say_json(summary.as_dict())
        else:
            _print_tables(summary)


def _print_recipe(file: Path, kind: Kind) -> None:
    from asrbuild.base.places import cache_root

    if kind.key not in _DRAFTS:
        raise AsrbuildError(
            "a recipe is drafted for ONNX models, TensorFlow graphs and SavedModels, and PyTorch "
            f"files, and this is {kind.what}",
            file=file,
            fix=kind.instead.replace("{file}", str(file)) or "give a .onnx file",
        )
    module = importlib.import_module(f"asrbuild.architectures.{_DRAFTS[kind.key]}.draft")
    terminal.say(module.draft(file, cache_root()).rstrip("\n"))


def _print_tables(summary: OnnxSummary) -> None:
    console = terminal.console()
    stored = ", ".join(f"{count:,} {kind}" for kind, count in summary.stored.items())
    console.print(
        f"{summary.path}: {summary.nbytes:,} bytes, op set {summary.opset}, weights: "
        f"{stored or 'none'}",
        soft_wrap=not terminal.is_terminal(),
    )
    inputs = []
    for tensor in summary.inputs:
        role = summary.roles.get(tensor.name, "")
        if fed := summary.states.get(tensor.name):
            role = f"{role}, fed by {fed}"
        inputs.append((tensor.name, tensor.dtype, _shape(tensor.shape), role))
    show_rows("Inputs", ("name", "type", "shape", "seems to be"), inputs)
    outputs = ((tensor.name, tensor.dtype, _shape(tensor.shape)) for tensor in summary.outputs)
    show_rows("Outputs", ("name", "type", "shape"), outputs)
    show_rows("No Core ML form", ("node",), ((message,) for message in summary.unconvertible))
    show_rows("Operations", ("operation", "count"), summary.ops.items())


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "unknown"
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
