"""``asrbuild run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild import terminal
from asrbuild.commands.ls import ArtifactsOption
from asrbuild.commands.packages import PackageArgument, opened_package
from asrbuild.commands.tables import folding
from asrbuild.errors import AsrbuildError
from asrbuild.kinds import ARRAY, require

if TYPE_CHECKING:
    import numpy as np

    from asrbuild.executor import Model

INPUT_HELP = "An input, or a state, as name=file.npy; again for each."


def run(
    model: PackageArgument,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=FILE", help=INPUT_HELP)
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Write every output there, as name.npy.")
    ] = None,
    function: Annotated[
        str | None, typer.Option(help="A function of a multifunction package.")
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Run a Core ML package on arrays, on any system.

    Without any --input it shows what the package takes and gives. A package that keeps its state
    inside starts from zeros, or from what --input gives for a state; its states after the run are
    shown and written like outputs, so that the next run can go on from them.

    Examples: asrbuild run demo-static-mlprogram |
    asrbuild run model.mlpackage --input input_node=windows.npy --output-dir out
    """
    from asrbuild.executor import load

    if output_dir is not None and not inputs:
        raise AsrbuildError(
            "without --input nothing is run, so there is nothing for --output-dir",
            fix="give every input, or leave --output-dir out to see which there are",
        )
    with opened_package(model, artifacts) as package:
        loaded = load(package, function)
        if not inputs:
            _show_signature(loaded, as_json)
            return
        results = _predict(loaded, [_read_input(text) for text in inputs])
    written = _write(results, output_dir) if output_dir is not None else {}
    rows = [_row(name, array) for name, array in results.items()]
    if as_json:
        rows = [row | {"file": str(written[row["name"]])} if written else row for row in rows]
        terminal.say_json({"function": loaded.function, "outputs": rows})
        return
    _print_table("Outputs", ["name", "dtype", "shape", "min", "max"], rows)
    for path in written.values():
        terminal.say(f"wrote {path}")


def _predict(model: Model, given: list[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs, and the states after the run."""
    arrays = dict(given)
    if len(arrays) < len(given):
        names = sorted({name for name, _ in given if [n for n, _ in given].count(name) > 1})
        raise AsrbuildError(f"input given twice: {', '.join(names)}", fix="give each input once")
    if not model.states:
        return model.predict(arrays)
    state = model.make_state()
    for name in [name for name in arrays if name in model.states]:
        state.write(name, arrays.pop(name))
    return model.predict(arrays, state) | {name: state.read(name) for name in state.names}


def _read_input(text: str) -> tuple[str, np.ndarray]:
    import numpy as np

    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise AsrbuildError(
            f"--input {text} is not name=file.npy",
            fix="for instance --input input_node=windows.npy",
        )
    require(file, ARRAY, key=f"--input {name}")
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AsrbuildError(
            f"input {name} cannot be read: {error}",
            file=file,
            fix="write it with numpy.save, one array a file",
        ) from error
    if not isinstance(array, np.ndarray):
        raise AsrbuildError(
            f"input {name} holds several arrays", file=file, fix="write it with numpy.save"
        )
    return name, array


def _write(results: dict[str, np.ndarray], directory: Path) -> dict[str, Path]:
    import numpy as np

    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths = {name: directory / f"{name}.npy" for name in results}
        for name, path in paths.items():
            np.save(path, results[name])
    except OSError as error:
        raise AsrbuildError(
            f"outputs cannot be written: {error}",
            file=directory,
            fix="give --output-dir a directory that can be written",
        ) from error
    return paths


def _row(name: str, array: np.ndarray) -> dict[str, Any]:
    import numpy as np

    # JSON has no NaN and no infinity.
    limits = [array.min().item(), array.max().item()] if array.size else [None, None]
    low, high = (None if v is None or not np.isfinite(v) else v for v in limits)
    shape = list(array.shape)
    return {"name": name, "dtype": str(array.dtype), "shape": shape, "min": low, "max": high}


def _show_signature(model: Model, as_json: bool) -> None:
    parts = {"inputs": model.inputs, "outputs": model.outputs, "states": model.states}
    rows = {
        part: [
            {
                "name": feature.name,
                "dtype": str(feature.dtype),
                "shape": "not declared" if feature.shape is None else str(feature.shape),
            }
            for feature in features.values()
        ]
        for part, features in parts.items()
        if features
    }
    if as_json:
        names = {"function": model.function, "functions": list(model.functions)}
        terminal.say_json(names | rows)
        return
    for part, features in rows.items():
        _print_table(part.capitalize(), ["name", "dtype", "shape"], features)
    if len(model.functions) > 1:
        terminal.say(f"functions: {', '.join(model.functions)}; shown: {model.function}")


def _print_table(title: str, columns: list[str], rows: list[dict[str, Any]]) -> None:

    table = folding(title, *columns)
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    terminal.console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"({', '.join(map(str, value))}{',' * (len(value) == 1)})"
    return str(value)
