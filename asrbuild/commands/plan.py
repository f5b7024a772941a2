"""``asrbuild plan`` and ``asrbuild cache why``: what a build would do, and for which reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asrbuild.recipe import Recipe
    from asrbuild.source import Source

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Hydra overrides, as for a build: model=static n_steps=32."),
]
ConfigDir = Annotated[
    str | None, typer.Option("--config-dir", help="A folder with your own config groups.")
]


def plan(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show which stages a build would run, without running any.

    Example: asrbuild plan model=static coreml.precision=fp32
    """
    from asrbuild.cache import fingerprint, is_cached
    from asrbuild.stages import DOING, chain

    recipe, source, cache = _compose(overrides, config_dir)
    rows = [
        (key.stage, DOING[key.stage], is_cached(cache, key), fingerprint(key)[:12])
        for key in chain(recipe, source).ordered()
    ]
    if as_json:
        fields = ("stage", "doing", "cached", "fingerprint")
        typer.echo(json.dumps([dict(zip(fields, row, strict=True)) for row in rows], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{recipe.name} {recipe.version}", title_justify="left")
    for heading in ("stage", "what it does", "would", "fingerprint"):
        table.add_column(heading)
    for stage, doing, cached, digest in rows:
        table.add_row(stage, doing, "[green]reuse[/]" if cached else "[yellow]run[/]", digest)
    Console().print(table)


def why(overrides: Overrides = None, config_dir: ConfigDir = None) -> None:
    """Say which key, file or version makes each stage of a build run again.

    Example: asrbuild cache why model=dynamic coreml.precision=fp32
    """
    from asrbuild.stages import chain
    from asrbuild.why import why as explain

    recipe, source, cache = _compose(overrides, config_dir)
    for key in chain(recipe, source).ordered():
        typer.echo(str(explain(cache, key)))


def _compose(overrides: list[str] | None, config_dir: str | None) -> tuple[Recipe, Source, Path]:
    from asrbuild.compose import compose_recipe
    from asrbuild.describe import check_recipe
    from asrbuild.source import locate

    recipe = compose_recipe(list(overrides or []), config_dir)
    check_recipe(recipe)
    cache = Path(recipe.paths.cache)
    return recipe, locate(recipe, cache), cache
