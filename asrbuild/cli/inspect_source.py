"""``asrbuild inspect source``: the facts that a source states about itself."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import similar_files
from asrbuild.base.tables import show_rows
from asrbuild.cli.options import ConfigDirOption, JsonOption


def inspect_source(
    source: Annotated[
        list[str],
        typer.Argument(
            help="A checkpoint folder or prefix, a frozen graph, or the overrides of a build."
        ),
    ],
    config_dir: ConfigDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the facts that a source states: each value, with its file and place.

    A name with a dot is a key of the recipe: a build takes the value if the key is null, and
    refuses another one. A value that is not stated must be given as a key.

    Examples:
        asrbuild inspect source demo:checkpoint
        asrbuild inspect source source=frozen_graph \\
          source.path=output_graph.pb
    """
    from asrbuild.architectures.architecture import architecture, shown
    from asrbuild.builder.compose import compose_recipe

    recipe = compose_recipe(_overrides(source), config_dir)
    found = architecture(recipe.architecture).question(recipe, Path(recipe.paths.cache))
    file, facts, missing = found
    if as_json:
        terminal.say_json({"facts": [asdict(f) for f in facts], "not_stated": missing})
        return
    rows = ((fact.name, shown(fact.value), fact.place, Path(fact.file).name) for fact in facts)
    show_rows(str(file), ("name", "value", "place", "file"), rows)
    if missing:
        terminal.say(f"not stated, so a build requires them as keys: {', '.join(missing)}")


def _overrides(arguments: list[str]) -> list[str]:
    """The arguments as overrides of a build; a path becomes an override of its key."""
    first, *more = arguments
    if "=" in first and not Path(first).exists():
        return arguments
    path = Path(first).expanduser()
    if not os.path.exists(path) and not os.path.isfile(f"{path}.index"):
        raise AsrbuildError(
            f"the source does not exist{similar_files(path)}",
            file=path,
            fix="give a checkpoint folder, a checkpoint's prefix or a frozen graph",
        )
    if path.is_dir() or path.with_name(f"{path.name}.index").is_file() or _of_checkpoint(path):
        return ["source=checkpoint", f"source.checkpoint_dir={first}", *more]
    return ["source=frozen_graph", f"source.path={first}", *more]


def _of_checkpoint(path: Path) -> bool:
    return path.suffix in (".index", ".meta") or ".data-" in path.name or "checkpoint" in path.name
