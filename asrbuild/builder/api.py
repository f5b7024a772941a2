"""The functions of ``import asrbuild``: compose a recipe, plan it, build it, open what it built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asrbuild.artifact.runtime import Transcriber
    from asrbuild.base.progress import Event, Progress
    from asrbuild.base.why import Explanation
    from asrbuild.builder.engine import Built
    from asrbuild.builder.recipe import Recipe


@dataclass(frozen=True)
class PlannedBuild:
    """The plan of a build, without doing any of it.

    Args:
        recipe: with every key settled that its source states.
        stages: in the order in which they run; each is cached, or has its reasons to run.
        published: whether the artifact is there already, so that nothing would run.
    """

    recipe: Recipe
    stages: tuple[Explanation, ...]
    published: bool


def compose(*overrides: str, config_dir: str | Path | None = None) -> Recipe:
    """A recipe from overrides as the command line takes them: ``compose("model=static")``.

    Args:
        config_dir: a folder with config groups of your own.

    Raises:
        AsrbuildError: a key or a value is wrong.
    """
    from asrbuild.builder.compose import compose_recipe

    return compose_recipe(list(overrides), None if config_dir is None else str(config_dir))


def plan(recipe: Recipe) -> PlannedBuild:
    """The plan of a build, without doing any of it.

    Raises:
        AsrbuildError: the recipe is impossible, or an input is missing.
    """
    from asrbuild.base.why import why
    from asrbuild.builder.plan import plan as plan_stages
    from asrbuild.builder.receipt import published
    from asrbuild.builder.rules import check_keys, check_recipe
    from asrbuild.builder.sources import settle

    check_keys(recipe)
    cache = Path(recipe.paths.cache)
    recipe, source = settle(recipe, cache, keep=False)
    check_recipe(recipe)
    planned = plan_stages(recipe, source)
    there = published(cache, Path(recipe.paths.artifacts), planned.receipt) is not None
    stages = tuple(why(cache, key) for key in planned.keys.values())
    return PlannedBuild(recipe, stages, there)


def build(recipe: Recipe, on_event: Callable[[Event], None] | None = None) -> Built:
    """Builds, proves and publishes a recipe, doing only what has not been done before.

    Args:
        on_event: given each :class:`~asrbuild.base.progress.Event`, from any thread; None: the
            stages are written to standard error.

    Raises:
        AsrbuildError: the recipe is impossible, an input is missing, or the package did not pass
            its gates; nothing is published then.
    """
    from asrbuild.base.progress import Progress

    return build_or_tune(recipe, (), Progress(on_event=on_event))


def build_or_tune(
    recipe: Recipe, overrides: Sequence[str], progress: Progress, *, move_latest: bool = True
) -> Built:
    """Builds the recipe, or searches for decoder values on top of its build.

    Args:
        overrides: what the user typed, for the manifest.
        move_latest: see :func:`asrbuild.builder.engine.build`.
    """
    if recipe.tune.target == "none":
        from asrbuild.builder import engine

        return engine.build(recipe, overrides, progress, move_latest=move_latest)
    from asrbuild.builder.tuning import tune

    return tune(recipe, overrides, progress, move_latest=move_latest)


def open_artifact(artifact: str | Path, artifacts: str | Path | None = None) -> Transcriber:
    """Opens an artifact to transcribe with; close it, or use it in ``with``.

    Args:
        artifact: a folder, or a name that ``asrbuild ls`` lists, with a version or without.
        artifacts: the store; None: ``$ASRBUILD_ARTIFACTS``, or ``artifacts`` here.

    Raises:
        AsrbuildError: there is none, or it cannot be used.
    """
    from asrbuild.artifact.lookup import resolve
    from asrbuild.artifact.runtime import open_artifact as opened
    from asrbuild.base.places import artifacts_root

    root = artifacts_root() if artifacts is None else Path(artifacts)
    return opened(resolve(root, str(artifact)))
