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
    """The plan of a build: its stages, and whether each is cached.

    Args:
        recipe: the recipe, completed with the values that its source states.
        stages: in the order in which they run; each is cached or has reasons to run.
        published: whether the store has the artifact already, so that nothing would run.
    """

    recipe: Recipe
    stages: tuple[Explanation, ...]
    published: bool


def compose(*overrides: str, config_dir: str | Path | None = None) -> Recipe:
    """Composes a recipe from overrides of the command line: ``compose("model=static")``.

    Args:
        config_dir: a configuration folder with groups of your own.

    Raises:
        AsrbuildError: a key or a value is wrong.
    """
    from asrbuild.builder.compose import compose_recipe

    return compose_recipe(list(overrides), None if config_dir is None else str(config_dir))


def plan(recipe: Recipe) -> PlannedBuild:
    """Plans a build, without running any stage.

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
    """Builds, proves and publishes a recipe; runs only the stages that are not in the cache.

    Args:
        on_event: called with each :class:`~asrbuild.base.progress.Event`, from any thread; None:
            progress goes to standard error.

    Raises:
        AsrbuildError: the recipe is impossible, an input is missing, or the package failed its
        gates; nothing is published then.
    """
    from asrbuild.base.progress import Progress

    return build_or_tune(recipe, (), Progress(on_event=on_event))


def build_or_tune(
    recipe: Recipe, overrides: Sequence[str], progress: Progress, *, move_latest: bool = True
) -> Built:
    """Builds the recipe, and with ``tune=scorer`` searches for decoder settings afterwards.

    Args:
        overrides: the overrides of the command line, for the manifest.
        move_latest: see :func:`asrbuild.builder.engine.build`.
    """
    if recipe.tune.target == "none":
        from asrbuild.builder import engine

        return engine.build(recipe, overrides, progress, move_latest=move_latest)
    from asrbuild.builder.tuning import tune

    return tune(recipe, overrides, progress, move_latest=move_latest)


def open_artifact(artifact: str | Path, artifacts: str | Path | None = None) -> Transcriber:
    """Opens an artifact for transcription; close it, or use it in ``with``.

    Args:
        artifact: a folder, or a name that ``asrbuild ls`` lists, with a version or without.
        artifacts: the store; None: ``$ASRBUILD_ARTIFACTS``, or ``./artifacts``.

    Raises:
        AsrbuildError: the artifact does not exist or cannot be used.
    """
    from asrbuild.artifact.lookup import resolve
    from asrbuild.artifact.runtime import open_artifact as opened
    from asrbuild.base.places import artifacts_root

    root = artifacts_root() if artifacts is None else Path(artifacts)
    return opened(resolve(root, str(artifact)))
