"""The recipe as a manifest records it: without secrets and the folders of this machine."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import architecture, names, own_sections
from asrbuild.base.places import DEMO_PREFIX
from asrbuild.base.secrets import without_secrets
from asrbuild.base.terminal import plain
from asrbuild.builder.recipe import TENSORFLOW, AxesConfig, Recipe
from asrbuild.proof.phoneme_gates import PHONEME_KEYS, PhonemeGates


def published_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides as a manifest records them, treated as :func:`record` treats keys."""
    config_files = [
        f"source.config.{key}" for each in names() for key in architecture(each).FILE_KEYS
    ]
    published = []
    for override in overrides:
        key, separator, value = override.partition("=")
        if not value.startswith(("'", '"', "[", "{")):
            value = value.replace(
                "\\:", ":"
            )  # so that a job of a sweep records what one build does
        name = key.lstrip("+~").split("@")[0]
        if name.startswith(("paths.", "tune.", "hydra")) or name == "decoder.interpreter":
            continue  # folders depend on the machine
        if name in FILE_KEYS or name in config_files:
            value = _portable(value.strip("'\"")) or ""
        elif name == "verify.compared_with":
            value = _artifact_name(value.strip("'\""))
        published.append(without_secrets(f"{key}{separator}{value}"))
    return published


#: Keys that name a file.
FILE_KEYS = tuple(
    """
    source.checkpoint_dir source.path source.alphabet_config_path source.scorer source.development
    source.sample.audio source.sample.text source.second.audio source.second.text
    decoder.scorer_path verify.evaluation
    """.split()
)


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
    """The artifact of ``verify.compared_with``, as :func:`record` writes it."""
    name: str = _clean(_artifact_name(recipe.verify.compared_with))
    return name


def record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as the manifest records it: whole, except the folders of this machine."""
    whole = asdict(recipe)
    del whole["paths"], whole["tune"]

    # Newer keys are recorded only if they have a value, so that older recipes keep their digests.
    if recipe.model.axes == AxesConfig():
        del whole["model"]["axes"]
    if recipe.coreml.fp32 is None:
        del whole["coreml"]["fp32"]
    if recipe.features.place == "app":
        del whole["features"]
    for own_section, (owner, own) in own_sections().items():
        if owner != recipe.architecture:
            del whole[own_section]
            continue
        defaults = own.schema()
        for key in own.later:
            if whole[own_section][key] == getattr(defaults, key):
                del whole[own_section][key]
    if not whole["coreml"]["compress_layers"]:
        del whole["coreml"]["compress_layers"]
    config = whole["source"]["config"]
    if not config:
        del whole["source"]["config"]
    named = (f"source.config.{key}" for key in architecture(recipe.architecture).FILE_KEYS)
    for key in (*named, *FILE_KEYS):
        *sections, name = key.split(".")
        section = functools.reduce(dict.__getitem__, sections, whole)
        if section is not None:
            section[name] = _portable(section.get(name))
    whole["verify"]["compared_with"] = _artifact_name(whole["verify"]["compared_with"])
    # The Core ML artifact is the same with and without its variant for Core AI.
    del whole["coreai"]
    # The manifest's verification has the witness; a recipe has one version with or without it.
    del whole["verify"]["witness"]
    # As in model.axes: keys that came later are recorded where they are given.
    for key in PHONEME_KEYS:
        if whole["verify"][key] == getattr(PhonemeGates, key):
            del whole["verify"][key]
    # The decoder's Python depends on the machine; the transcripts do not depend on it.
    del whole["decoder"]["interpreter"]
    cleaned: dict[str, Any] = _clean(whole)
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def publishable(recipe: Recipe) -> Recipe:
    """The recipe without secrets in the texts that its manifest copies."""
    keys = ("name", "description", "author", "license")
    texts = {key: _clean(getattr(recipe.source, key)) for key in keys}
    own = {name: getattr(recipe, name) for name in own_sections()}
    cleaned = {name: replace(each, **_clean(asdict(each))) for name, each in own.items()}
    return replace(recipe, source=replace(recipe.source, **texts), **cleaned)
