"""``asrbuild run``: runs a Core ML package on arrays, on any system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import ARRAY
from asrbuild.base.kinds.recognition import require
from asrbuild.base.tables import show_rows
from asrbuild.cli.options import ArtifactsOption, JsonOption, new_folder
from asrbuild.cli.packages import PackageArgument, opened_package

if TYPE_CHECKING:
    from asrbuild.base.array import Array
    from asrbuild.coreml.executor import Feature, Model

INPUT_HELP = "An input, or a state, as name=file.npy; again for each."


def run(
    model: PackageArgument,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=FILE", help=INPUT_HELP)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Write every output there, as name.npy; a classifier's label and probabilities "
            "as name.json. Characters that a file's name cannot have are written %XX.",
        ),
    ] = None,
    finite: Annotated[
        bool,
        typer.Option("--finite", help="Fail if an output holds a NaN or an infinity."),
    ] = False,
    function: Annotated[
        str | None, typer.Option(help="A function of a multifunction package.")
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a Core ML package on arrays, on any system.

    Without --input it shows the inputs, outputs and states. A package with an internal state starts
    from zeros, or from the --input of that state; its states after the run are shown and written
    like outputs, so that the next run can continue from them.

    Examples:
        asrbuild run demo-static-mlprogram
    """
    from asrbuild.coreai import asset
    from asrbuild.coreml.choices import ASSET
    from asrbuild.coreml.executor import load

    if output is not None and not inputs:
        raise AsrbuildError(
            "--output requires --input: without it nothing is run",
            fix="give every input, or leave --output out to list them",
        )
    with opened_package(model, artifacts) as package:
        is_asset = package.suffix == f".{ASSET}"
        loaded: Any = (asset.load if is_asset else load)(package, function)
        if not inputs:
            _show_signature(loaded, as_json)
            return
        results = _predict(loaded, [_read_input(text) for text in inputs])
    written = _write(results, new_folder(output)) if output is not None else {}
    rows = [_row(name, value) for name, value in results.items()]
    if as_json:
        rows = [row | {"file": str(written[row["name"]])} if written else row for row in rows]
        terminal.say_json({"function": loaded.function, "outputs": rows})
    else:
        _print_results(rows)
        for path in written.values():
            terminal.say(f"wrote {path}")
    if finite:
        _require_finite(rows, model)


def _require_finite(rows: list[dict[str, Any]], model: str) -> None:
    counts = {row["name"]: _not_finite(row) for row in rows}
    wrong = [f"{name} ({count})" for name, count in counts.items() if count]
    if wrong:
        raise AsrbuildError(
            f"not all values are finite: {', '.join(wrong)}",
            file=model,
            fix="give finite inputs of the magnitude that the model was made for; if a value "
            "exceeds 65504 in half precision, build with coreml.precision=fp32",
        )


def _predict(model: Model, inputs: list[tuple[str, Array]]) -> dict[str, Any]:
    """The outputs, and the states after the run."""
    arrays = dict(inputs)
    if len(arrays) < len(inputs):
        names = sorted({name for name, _ in inputs if [n for n, _ in inputs].count(name) > 1})
        raise AsrbuildError(
            f"an input is given twice: {', '.join(names)}", fix="give each input once"
        )
    if not model.states:
        return model.predict(arrays)
    state = model.make_state()
    for name in [name for name in arrays if name in model.states]:
        state.write(name, arrays.pop(name))
    return model.predict(arrays, state) | {name: state.read(name) for name in state.names}


def _read_input(text: str) -> tuple[str, Array]:
    import numpy as np

    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise AsrbuildError(
            f"--input {text} is not name=file.npy",
            fix="for instance --input features=windows.npy",
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


def _write(results: dict[str, Any], directory: Path) -> dict[str, Path]:
    import json

    import numpy as np

    from asrbuild.base.file_names import file_names

    names = file_names(results)
    paths = {
        name: directory / f"{names[name]}.{'npy' if isinstance(value, np.ndarray) else 'json'}"
        for name, value in results.items()
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            if isinstance(results[name], np.ndarray):
                np.save(path, results[name])
            else:
                path.write_text(json.dumps(_plain(results[name]), indent=1) + "\n", "utf-8")
    except OSError as error:
        raise AsrbuildError(
            f"outputs cannot be written: {error}",
            file=directory,
            fix="name a writable directory with --output",
        ) from error
    return paths


def _row(name: str, value: Any) -> dict[str, Any]:
    """The row of an output: an array's limits, and its number of values that are not finite.

    The limits omit NaN unless all values are NaN; JSON has neither NaN nor infinity, so they are
    text. Labels and probabilities are shown as they are.
    """
    import numpy as np

    if isinstance(value, dict):
        return {"name": name, "probabilities": _plain(value)}
    if not isinstance(value, np.ndarray):
        return {"name": name, "label": value}
    row: dict[str, Any] = {"name": name, "dtype": str(value.dtype), "shape": list(value.shape)}
    numbers = value[~np.isnan(value)] if np.isnan(value).any() else value
    if numbers.size == 0:
        numbers = value
    limits = (numbers.min().item(), numbers.max().item()) if value.size else (None, None)
    row |= dict(zip(("min", "max"), map(_plain, limits), strict=True))
    if not np.isfinite(value).all():
        row["nan"] = int(np.isnan(value).sum())
        row["+inf"] = int(np.isposinf(value).sum())
        row["-inf"] = int(np.isneginf(value).sum())
    return row


def _not_finite(row: dict[str, Any]) -> str:
    """``2 NaN, 1 -inf``, or an empty string."""
    counts = {kind: row.get(kind, 0) for kind in ("nan", "+inf", "-inf")}
    for value in row.get("probabilities", {}).values():
        if isinstance(value, str):
            counts["nan" if value == "nan" else value] += 1
    kinds = {"nan": "NaN", "+inf": "+inf", "-inf": "-inf"}
    return ", ".join(f"{count} {kinds[kind]}" for kind, count in counts.items() if count)


def _plain(value: Any) -> Any:
    """A label or probabilities as JSON values; NaN and infinities become text."""
    import math

    if isinstance(value, dict):
        return {str(label): _plain(one) for label, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "+inf" if value > 0 else "-inf"
    return value


def _print_results(rows: list[dict[str, Any]]) -> None:
    arrays = [row | {"not finite": _not_finite(row) or "-"} for row in rows if "dtype" in row]
    columns = ["name", "dtype", "shape", "min", "max"]
    if any(row["not finite"] != "-" for row in arrays):
        columns.append("not finite")
    if arrays:
        _print_table("Outputs", columns, arrays)
    for row in rows:
        if "label" in row:
            terminal.say(f"{row['name']}: {row['label']}")
        if "probabilities" in row:
            pairs = sorted(row["probabilities"].items(), key=_likelier)
            shown = [{"label": label, "probability": value} for label, value in pairs]
            _print_table(row["name"], ["label", "probability"], shown)


def _likelier(pair: tuple[str, Any]) -> tuple[bool, float]:
    """Sort key: the most probable first, after NaN and infinities."""
    return (not isinstance(pair[1], str), -pair[1] if not isinstance(pair[1], str) else 0.0)


def _show_signature(model: Model, as_json: bool) -> None:
    parts = {"inputs": model.inputs, "outputs": model.outputs, "states": model.states}
    rows = {
        part: [
            {
                "name": feature.name,
                "dtype": _dtype(feature),
                "shape": _shape(feature),
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


def _dtype(feature: Feature) -> str:
    name = "str" if feature.dtype.kind == "U" else str(feature.dtype)
    return name if feature.kind != "probabilities" else f"float by {name}"


def _shape(feature: Feature) -> str:
    if feature.kind != "array":
        return feature.kind
    return "not declared" if feature.shape is None else str(feature.shape)


def _print_table(title: str, columns: list[str], rows: list[dict[str, Any]]) -> None:
    show_rows(title, columns, ([_text(row[column]) for column in columns] for row in rows))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"({', '.join(map(str, value))}{',' * (len(value) == 1)})"
    return str(value)
