"""The recipe as a manifest records it: without secrets and where files lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import architecture, names
from asrbuild.base.places import DEMO_PREFIX
from asrbuild.base.secrets import without_secrets
from asrbuild.base.terminal import plain
from asrbuild.build.recipe import TENSORFLOW, Recipe


def published_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides as a manifest records them: as :func:`record` does with the keys they set."""
    config_files = [
        f"source.config.{key}" for each in names() for key in architecture(each).FILE_KEYS
    ]
    found = []
    for override in overrides:
        key, separator, value = override.partition("=")
        name = key.lstrip("+~").split("@")[0]
        if name.startswith(("paths.", "tune.", "hydra")) or name == "decoder.interpreter":
            continue  # a matter of this machine
        if name in _FILE_KEYS or name in config_files:
            value = _portable(value.strip("'\"")) or ""
        elif name == "verify.compared_with":
            value = _artifact_name(value.strip("'\""))
        found.append(without_secrets(f"{key}{separator}{value}"))
    return found


_FILE_KEYS = (
    *(f"source.{key}" for key in ("checkpoint_dir", "path", "alphabet_config_path", "scorer",
                                  "development")),
    *(f"source.{name}.{part}" for name in ("sample", "second") for part in ("audio", "text")),
    "decoder.scorer_path", "verify.evaluation",
)  # fmt: skip


def _portable(path: str | None) -> str | None:
    if path is None or path.startswith(DEMO_PREFIX):
        return path
    return plain(Path(path).name)


def _artifact_name(spec: str) -> str:
    """``name/version`` of an artifact that is named by its path."""
    path = Path(spec).expanduser()
    if spec == TENSORFLOW or not (path.is_absolute() or path.exists()):
        return spec
    whole = Path(os.path.abspath(path))
    return f"{whole.parent.name}/{whole.name}"


def compared_artifact(recipe: Recipe) -> str:
    """What ``verify.compared_with`` names, as :func:`record` has it."""
    name: str = _clean(_artifact_name(recipe.verify.compared_with))
    return name


def record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as the manifest records it: whole, but for where files lie on this machine."""
    whole = asdict(recipe)
    del whole["paths"], whole["tune"]

    source, decoder = whole["source"], whole["decoder"]
    if not source["config"]:
        del source["config"]
    for key in architecture(recipe.architecture).FILE_KEYS:
        source["config"][key] = _portable(source["config"].get(key))
    for key in ("checkpoint_dir", "path", "alphabet_config_path", "scorer", "development"):
        source[key] = _portable(source[key])
    for key in ("sample", "second"):
        source[key] = {part: _portable(value) for part, value in source[key].items()}
    decoder["scorer_path"] = _portable(decoder["scorer_path"])
    whole["verify"]["evaluation"] = _portable(whole["verify"]["evaluation"])
    whole["verify"]["compared_with"] = _artifact_name(whole["verify"]["compared_with"])
    # Which Python runs the decoder is this machine's affair; the words are the same in each.
    del decoder["interpreter"]
    cleaned: dict[str, Any] = _clean(whole)
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def publishable(recipe: Recipe) -> Recipe:
    """The recipe with every text that its manifest repeats word for word made fit for that."""
    source, export = recipe.source, recipe.export
    told = {key: _clean(getattr(source, key))
            for key in ("name", "description", "author", "license")}  # fmt: skip
    keys = ("export_language", "export_author_id", "export_license", "export_description")
    exported = {key: _clean(getattr(export, key)) for key in keys}
    return replace(recipe, source=replace(source, **told), export=replace(export, **exported))
