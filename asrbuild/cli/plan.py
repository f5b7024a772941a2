"""``asrbuild plan`` and ``asrbuild cache why``: the stages that a build would run, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import ConfigDirOption, JsonOption

if TYPE_CHECKING:
    from asrbuild.builder.api import PlannedBuild

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Hydra overrides, as for a build: model=static n_steps=32."),
]


def plan(
    overrides: Overrides = None,
    config_dir: ConfigDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which stages a build would run, and the reasons, without running any.

    With -m, or if the configuration sweeps, the jobs: what each runs, and what it shares with a job
    before it.

    Examples:
        asrbuild plan model=static coreml.precision=fp32
        asrbuild plan -m model=static,dynamic coreml.compress=none,int8
    """
    from asrbuild.builder.compose import sweep_of
    from asrbuild.builder.config_folders import check_folders
    from asrbuild.builder.plan import titles

    given = check_folders(list(overrides or ()))
    if (swept := sweep_of(given, config_dir)) is not None:
        _plan_jobs(swept, config_dir, as_json)
        return
    planned = _plan(given, config_dir)
    recipe, there = planned.recipe, planned.published
    doing = titles(recipe)
    rows: list[dict[str, Any]] = [
        {
            "stage": stage.stage,
            "doing": doing[stage.stage],
            "cached": stage.cached,
            "would": "reuse" if stage.cached else "skip" if there else "run",
            "because": stage.reasons(),
            "fingerprint": stage.fingerprint[:12],
        }
        for stage in planned.stages
    ]
    if not there and rows[-1]["would"] == "reuse":
        rows[-1] |= {"would": "run", "because": ["the artifact is not in the store"]}
    if as_json:
        terminal.say_json(rows)
        return
    title = f"{recipe.name} {recipe.version}"
    table = folding(title, "stage", "what it does", "would", "because")
    for row in rows:
        colour = "yellow" if row["would"] == "run" else "green"
        first, *more = row["because"] or [""]
        because = f"{first} and {len(more)} more" if more else first
        table.add_row(row["stage"], row["doing"], terminal.line(row["would"], colour), because)
    if there:
        table.caption = "nothing to do: this recipe is built and published already"
    show(table)


def why(
    overrides: Overrides = None,
    config_dir: ConfigDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which key, file or version makes each stage of a build run again.

    Examples:
        asrbuild cache why model=dynamic coreml.precision=fp32
    """
    planned = _plan(overrides, config_dir)
    if as_json:
        terminal.say_json([asdict(stage) for stage in planned.stages])
        return
    for stage in planned.stages:
        terminal.say(str(stage))
    if planned.published:
        terminal.say("nothing to do: this recipe is built and published already")


def _plan_jobs(overrides: list[str], config_dir: str | None, as_json: bool) -> None:
    """Shows the jobs of a sweep in order, each stage once."""
    from asrbuild.builder.api import compose, plan
    from asrbuild.builder.compose import jobs_of
    from asrbuild.builder.naming import told_apart
    from asrbuild.builder.overrides import varied_keys

    varied, seen, rows = varied_keys(overrides), set[str](), []
    for number, job in enumerate(jobs_of(overrides)):
        planned = plan(told_apart(compose(*job, config_dir=config_dir), job, varied))
        row: dict[str, Any] = {"job": number, "overrides": job, "name": planned.recipe.name}
        row |= {"published": planned.published, "run": [], "shared": [], "cached": []}
        for stage in planned.stages:
            new = "shared" if stage.fingerprint in seen else "run"
            row["cached" if stage.cached else new].append(stage.stage)
            seen.add(stage.fingerprint)
        rows.append(row)
    if as_json:
        terminal.say_json(rows)
        return
    table = folding(
        f"{len(rows)} job{'s'[: len(rows) != 1]}",
        "job",
        *varied,
        "name",
        "would run",
        "shared with a job before",
    )
    for row in rows:
        runs = "nothing: it is published" if row["published"] else ", ".join(row["run"])
        values = dict(override.split("=", 1) for override in row["overrides"])
        swept = [values.get(key, "") for key in varied]
        table.add_row(str(row["job"]), *swept, row["name"], runs, ", ".join(row["shared"]))
    show(table)


def _plan(overrides: list[str] | None, config_dir: str | None) -> PlannedBuild:
    from asrbuild.builder.api import compose, plan

    return plan(compose(*(overrides or ()), config_dir=config_dir))
