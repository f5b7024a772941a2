"""Recipes from command-line overrides, composed by Hydra."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import kinds, own_sections
from asrbuild.base.choices import conf_dir
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.config_folders import check_files_of_hydra, require_folder
from asrbuild.builder.explain import explain, unknown_key
from asrbuild.builder.overrides import check_flags, flags_first, is_plain, parsed, quoted, readable
from asrbuild.builder.recipe import Recipe, recipe_keys, with_own_layers
from asrbuild.builder.record import publishable
from asrbuild.coreml.choices import SAME_TARGETS

CONFIG_NAME = "config"
#: Sections with keys that the user chooses (functions of a package, hot words, precisions), and one
#: that is null by default, so that only Hydra knows and checks its keys.
_FREE_SECTIONS = tuple(
    """
    source.config. model.functions. model.axes. decoder.hot_words. decoder.tuned. verify.thresholds.
    """.split()
)


def register_schema() -> None:
    """Registers the recipe's schema and resolvers, and the check of files that Hydra reads."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="recipe_schema", node=Recipe)
    _register_default_name()
    check_files_of_hydra()


def _register_default_name() -> None:
    from omegaconf import OmegaConf

    def named(*, _root_: Any) -> str:
        from asrbuild.builder.naming import default_name

        sections = ("n_steps", "features", "source", "model", "coreml", "decoder", "verify")
        read = (*sections, *own_sections())
        return default_name(_resolved(_root_, read))

    OmegaConf.register_new_resolver("default_name", named, replace=True)


def _resolved(root: Any, keys: Iterable[str]) -> dict[str, Any]:
    """The values of these keys of a config; no other key is resolved."""
    from omegaconf import OmegaConf

    found = {}
    for key in keys:
        value = root[key]
        found[key] = (
            OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        )
    return found


def to_recipe(config: Any) -> Recipe:
    """Turns the composed config into a ``Recipe``; resolves interpolations and checks types."""
    from omegaconf.errors import OmegaConfBaseException

    # The process of a launcher has the config, but not the registered schema.
    _register_default_name()
    try:
        recipe = _object_of(config)
    except OmegaConfBaseException as error:  # an interpolation of an unknown key
        raise explain(error, []) from error
    if not isinstance(recipe, Recipe):
        raise AsrbuildError(
            f"{CONFIG_NAME}.yaml does not inherit recipe_schema",
            fix="start its defaults list with `- recipe_schema`",
        )
    _refuse_added_keys(config)
    paths = replace(
        recipe.paths,
        artifacts=_at_home("paths.artifacts", recipe.paths.artifacts),
        cache=_at_home("paths.cache", recipe.paths.cache),
    )
    target = recipe.coreml.minimum_deployment_target
    coreml = replace(recipe.coreml, minimum_deployment_target=SAME_TARGETS.get(target, target))
    recipe = replace(recipe, paths=paths, coreml=coreml)
    if recipe.source.kind in kinds():  # the rules refuse any other kind
        recipe = with_own_layers(recipe)
    return publishable(recipe)


#: Environment variables that a recipe may read; None: all, where nothing is published.
_variables: frozenset[str] | None = None


def _env(name: str, *default: Any) -> Any:
    """The resolver ``oc.env``, limited to variables whose values may be published.

    Raises:
        AsrbuildError: a section other than ``paths`` reads it, and ``paths.env`` does not list it.
    """
    from omegaconf.resolvers.oc import env

    if _variables is not None and name not in _variables:
        raise AsrbuildError(
            f"the recipe reads the environment variable {name} outside of paths, where it would be "
            "published",
            key="paths.env",
            fix=f"write the value itself, or, if it is not secret, add paths.env=[{name}]",
        )
    return env(name, *default)


def _object_of(config: Any) -> Any:
    """Turns the config into an object of its schema, with its interpolations resolved.

    ``paths`` may read the environment. The other sections are resolved without it, even where they
    interpolate ``paths``, because their values are published.
    """
    from omegaconf import OmegaConf

    global _variables
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)
    kind = OmegaConf.get_type(config)
    if kind is not Recipe or "paths" not in config:
        return OmegaConf.to_object(config)
    paths: Any = OmegaConf.to_object(config.paths)
    before, _variables = _variables, frozenset(paths.env)
    try:
        values: dict[str, Any] = {}
        for key in config:
            if key == "paths":
                continue
            value = config[key]
            values[key] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    finally:
        _variables = before
    known = {declared.name for declared in fields(Recipe)}
    # Unknown keys are refused later, in an error that names them.
    return Recipe(**{key: value for key, value in values.items() if key in known}, paths=paths)


def _at_home(key: str, path: str) -> str:
    """Replaces ``~`` in a path: no shell does it after ``paths.cache=``."""
    try:
        return path and str(Path(path).expanduser())
    except RuntimeError:
        raise AsrbuildError(
            f"{key}={path} is in the home of a user who has none here",
            key=key,
            fix="write the path in full",
        ) from None


def _refuse_added_keys(config: Any) -> None:
    """Raises for keys that the schema lacks: ``+foo=1`` adds them without Hydra's check."""
    known = set(recipe_keys())

    def walk(node: Any, prefix: str) -> None:
        for name in node:
            key = f"{prefix}{name}"
            if key not in known and not prefix.startswith(_FREE_SECTIONS):
                raise unknown_key(key)
            child = node._get_node(name)
            if child is not None and child._is_none() is False and hasattr(child, "items"):
                walk(child, f"{key}.")

    walk(config, "")


def compose_recipe(overrides: list[str], config_dir: str | None = None) -> Recipe:
    """Composes a recipe outside of a Hydra run, for one build and commands such as ``plan``."""
    from hydra import compose, initialize_config_dir

    register_schema()
    for argument in overrides:
        if argument.startswith("-"):
            raise AsrbuildError(
                f"{argument} has no meaning here: this looks at one recipe",
                fix="give overrides of one build: model=static n_steps=32",
            )
    given = readable(overrides, sweep=False)
    if config_dir is not None:
        require_folder(config_dir)
        given.append(f"hydra.searchpath=[{quoted(f'file://{Path(config_dir).resolve()}')}]")
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="asrbuild"):
            return to_recipe(compose(CONFIG_NAME, overrides=given))
    except Exception as error:
        raise explain(error, overrides) from error


def swept_in_config(argv: list[str]) -> bool:
    """Whether the configuration sets ``hydra.mode: MULTIRUN``, so that the run is a sweep.

    Raises:
        AsrbuildError: the config does not compose.
    """
    from hydra.types import RunMode

    settings = _hydra_settings(argv)
    return bool(settings is not None and settings.mode == RunMode.MULTIRUN)


def sweep_of(argv: list[str], config_dir: str | None = None) -> list[str] | None:
    """The overrides of a sweep, after those that the configuration sweeps; None for one build.

    Raises:
        AsrbuildError: the config does not compose.
    """
    from hydra.types import RunMode

    overrides = [each for each in argv if each not in ("-m", "--multirun")]
    asked = len(overrides) < len(argv)
    if config_dir is None and is_plain(overrides):
        return overrides if asked else None
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    many = [each for each in overrides if (read := parsed(each)) and read.is_sweep_override()]
    settings = _hydra_settings([*(each for each in overrides if each not in many), *folder])
    if settings is None or not (asked or settings.mode == RunMode.MULTIRUN):
        return None
    swept = settings.sweeper.get("params") or {}
    return [*(f"{key}={values}" for key, values in swept.items()), *overrides]


def _hydra_settings(argv: list[str]) -> Any:
    """Hydra's own settings of a command line; None if it only prints them."""
    from hydra import compose, initialize_config_dir
    from hydra._internal.utils import get_args_parser

    register_schema()
    check_flags(given := flags_first(argv))
    asked = get_args_parser().parse_args(given)
    overrides = list(asked.overrides)
    if asked.cfg or asked.info or asked.hydra_help:
        return None
    if asked.config_dir is not None:
        folder = quoted(f"file://{Path(asked.config_dir).resolve()}")
        overrides.append(f"hydra.searchpath=[{folder}]")
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="asrbuild"):
            return compose(CONFIG_NAME, overrides=overrides, return_hydra_config=True).hydra
    except Exception as error:
        raise explain(error, argv) from error


def jobs_of(overrides: list[str]) -> list[list[str]]:
    """The overrides of each job of a sweep, as Hydra's basic sweeper makes them."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    register_schema()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="asrbuild"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            batches = BasicSweeper.split_arguments(
                parser.parse_overrides(readable(overrides, sweep=True)), max_batch_size=None
            )
    except Exception as error:
        raise explain(error, overrides) from error
    return [list(job) for batch in batches for job in batch]


def run_hydra(task: Callable[[Any], Any], argv: list[str]) -> None:
    """Runs ``task`` under Hydra's own command line (``-m``, ``--cfg``, ``--config-dir``, ...).

    Raises:
        AsrbuildError: the config does not compose.
    """
    import hydra

    register_schema()
    failed: list[Exception] = []

    def guarded(config: Any) -> Any:
        # Kept, and raised after Hydra's run: Hydra would print a message of its own.
        try:
            return task(config)
        except Exception as error:
            failed.append(error)
            return None

    check_flags(given := flags_first(argv))
    asked_for_traceback = debugging()
    # With this variable Hydra raises an error instead of printing it and ending the process.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["asrbuild", *given]
    try:
        hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")(
            guarded
        )()
    except (AsrbuildError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if asked_for_traceback:
            raise
        raise explain(error, argv) from error
    finally:
        if not asked_for_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    if failed:
        raise failed[0]


def debugging() -> bool:
    """Whether the user requests tracebacks, with ``--debug`` or ``HYDRA_FULL_ERROR=1``."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
