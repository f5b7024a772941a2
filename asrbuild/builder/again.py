"""``--from``: the recipe of a published artifact, to build it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asrbuild.base.choices import conf_dir
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import resolve_file
from asrbuild.builder.compose import compose_recipe, to_recipe
from asrbuild.builder.overrides import parsed, readable
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.record import FILE_KEYS


def recipe_of(spec: str, overrides: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe in an artifact's manifest, changed by overrides.

    Args:
        spec: a name in the store, name/version or a path.
        overrides: ``key=value``; no ``group=choice``, because a manifest records values alone.

    Returns:
        The recipe, and the artifact's overrides followed by these, for the new manifest.

    Raises:
        AsrbuildError: the artifact does not exist, an override's key does not exist or its value
            has another type, or the manifest names a file of another machine and no override gives
            its path here.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from asrbuild.artifact.lookup import resolve
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.builder.explain import explain

    paths = compose_recipe([each for each in overrides if each.startswith("paths.")]).paths
    artifact = resolve(Path(paths.artifacts), spec)
    provenance = read_manifest(artifact).provenance
    config: Any = OmegaConf.merge(OmegaConf.structured(Recipe), provenance.recipe)
    given = readable(list(overrides), sweep=False)
    for override in given:
        found = parsed(override)
        if found is None or found.is_delete() or (conf_dir() / found.key_or_group).is_dir():
            raise AsrbuildError(
                f"{override} is not a key with a value, which --from requires: the artifact's "
                "manifest has every group's choice already",
                key="--from",
                fix="write the keys to change: coreml.precision=fp32",
            )
        try:
            OmegaConf.update(config, found.key_or_group, found.value(), force_add=found.is_add())
        except OmegaConfBaseException as error:
            raise explain(error, given) from error
    recipe = replace(to_recipe(config), paths=paths)
    _require_files(config, artifact)
    return recipe, [*provenance.overrides, *overrides]


def _require_files(config: Any, artifact: Path) -> None:
    """Raises if a key names a missing file: a manifest has names of files without folders."""
    from omegaconf import OmegaConf

    missing = [
        key
        for key in FILE_KEYS
        if (name := OmegaConf.select(config, key)) is not None and not resolve_file(name).exists()
    ]
    if missing:
        raise AsrbuildError(
            "the manifest records the names of files, not where they are: "
            + ", ".join(f"{key} was {OmegaConf.select(config, key)}" for key in missing),
            key=missing[0],
            file=artifact,
            fix="say where they are: " + " ".join(f"{key}=PATH" for key in missing),
        )
