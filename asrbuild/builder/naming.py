"""The default name of an artifact, which describes its recipe and is valid on every remote.

It is ``<source>-<model>-<format>``, then a word for each key whose value is not its group's
default: ``demo-static-mlprogram-n32-int8``. It depends on the recipe alone, so the same command
gives the same name on any day and machine. Keys that change neither the artifact nor the extent of
its proof have no word: labels, paths of inputs, and stricter gates. A sweep that varies such a key
adds its word, see ``varied``.

A registry takes lower-case letters and digits with single dots, dashes and underscores between them
(OCI distribution specification, "Pulling manifests"); the words are written so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

from asrbuild.architectures.architecture import own_sections
from asrbuild.base.choices import packaged
from asrbuild.base.places import DEMO_PREFIX
from asrbuild.builder.recipe import Recipe, StepsConfig, base_name, chosen
from asrbuild.coreml.choices import DEFAULT_STEPS

#: The most characters that :func:`asrbuild.artifact.names.is_name` takes.
LONGEST = 80
_LONGEST_WORD = 24
#: Key -> the text before its value; empty if the value is clear alone, such as ``int8``.
_WORDS = {
    "n_steps": "n",
    "features.place": "features",
    "coreml.precision": "",
    "coreml.minimum_deployment_target": "",
    "coreml.compute_units": "",
    "coreml.lstm": "",
    "coreml.state": "",
    "coreml.frontend": "",
    "coreml.range_upper": "upto",
    "coreml.compress": "",
    "model.steps.sizes": "",
    "model.steps.kind": "",
    "model.streaming": "",
    "model.axes.steps.default": "n",
    "model.axes.samples.default": "n",
    "model.axes.steps.sizes": "",
    "model.axes.samples.sizes": "",
    "decoder.type": "",
    "decoder.beam_width": "width",
    "decoder.scorer_path": "",
    "decoder.lm_alpha": "alpha",
    "decoder.lm_beta": "beta",
    "decoder.hot_words": "hot",
    "source.load_evaluate": "",
    "source.checkpoint_dir": "",
    "source.path": "",
    "source.alphabet_config_path": "",
}
#: Groups whose choice is not part of the base name.
_SECTIONS = (*own_sections(), "decoder", "verify")
#: Keys that do not change the package if a sweep varies them.
_NOT_BUILT = ("name", "version", "paths.", "tune", "decoder.interpreter", "hydra")
#: Sections and keys without a word.
_SILENT = (
    "name",
    "version",
    "paths.",
    "tune.",
    "source.",
    "model.name",
    "coreml.name",
    "verify.",
    "decoder.interpreter",
    "decoder.tuned",
    "coreai",
    *(f"{section}.{key}" for section, (_, own) in own_sections().items() for key in own.silent),
)
_SPOKEN = ("source.load_evaluate", "source.bytes_output_mode")
#: Sections with keys that the user chooses.
_WHOLE = (
    "model.functions",
    "decoder.hot_words",
    "decoder.tuned",
    "verify.thresholds",
)
#: Keys of ``verify`` that weaken or change a proof; the others can only make it stricter.
_PROOF = ("inputs", "edge_lengths", "max_steps", "require_transcript", "thresholds")


def default_name(
    recipe: Mapping[str, Any],
    varied: Mapping[str, str] = MappingProxyType({}),
    repeated: Collection[str] = (),
) -> str:
    """The default name of a recipe.

    Args:
        recipe: the recipe as nested mappings; ``name``, ``paths`` and ``tune`` are not read.
        varied: keys and groups that a sweep varies, with this job's values; each value other than
            the default has a word.
        repeated: keys that repeat what the source states; they have no word.
    """
    words = {key: word for key, word in _words(recipe) if key not in repeated}
    leaves = dict(_leaves(recipe))
    plain = _plain(recipe)
    for key, choice in varied.items():
        if key in words or key.startswith(_NOT_BUILT):
            continue
        if key in leaves and leaves[key] != plain.get(key):
            words[key] = _word(key, leaves[key], apart=True)
        silent = key in _SECTIONS and not any(word.startswith(key) for word in words)
        if silent and plain_values(key, choice) is None:
            # A file of the user; its keys have no words.
            words[key] = _word(key, choice, apart=True)
    name = "-".join([base_name(recipe), *words.values()])
    if len(name) > LONGEST and words:
        name = f"{name[: LONGEST - 9].rstrip('-._')}-{_digest(name, 8)}"
    return name


def _words(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields key and word of each key whose value is not its group's default."""
    plain = _plain(recipe)
    for key, value in _leaves(recipe):
        if value != plain.get(key) and (key in _SPOKEN or not key.startswith(_SILENT)):
            yield key, _word(key, value)
    yield from _proof_words(recipe["verify"])


def _proof_words(verify: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The words of a proof other than the default: ``quick``, or one word for any other."""
    whole, quick = (plain_values("verify", choice) or {} for choice in ("default", "quick"))
    other = {key: verify[key] for key in _PROOF if verify[key] != whole[key]}
    shorter = ("inputs", "edge_lengths")
    if other and all(verify[key] == quick[key] for key in shorter):
        yield "verify.inputs", "quick"
        other = {key: value for key, value in other.items() if key not in shorter}
    if other:
        yield "verify", f"verify-{_digest(other)}"


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Key -> value of a recipe with the same groups and their default values.

    The base name has the name of a group of the user, so all its values count as defaults.
    """
    decoder = recipe["decoder"]["type"]
    groups = {
        "source": recipe["source"]["kind"],
        **{section: owner for section, (owner, _) in own_sections().items()},
        "model": recipe["model"]["name"],
        "coreml": recipe["coreml"]["name"],
        "decoder": decoder,
        "verify": "default",
    }
    given = json.dumps(recipe, sort_keys=True, default=str)
    plain = dict(_plain_leaves(tuple(groups.items()), given))
    plain["decoder.type"] = "greedy"
    return plain


@functools.lru_cache(maxsize=4)
def _plain_leaves(groups: tuple[tuple[str, str], ...], given: str) -> tuple[tuple[str, Any], ...]:
    recipe = json.loads(given)
    found: dict[str, Any] = {"n_steps": DEFAULT_STEPS, "features.place": "app"}
    for group, choice in groups:
        values = plain_values(group, choice, recipe)
        section = recipe[group] if values is None else values
        found |= dict(_leaves({group: section}))
    return tuple(found.items())


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted key and value; a section with keys that the user chooses is one value."""
    for name, value in section.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in _WHOLE:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, DEFAULT_STEPS if key == "n_steps" and value is None else value


def _word(key: str, value: Any, *, apart: bool = False) -> str:
    """The word of one value; ``apart``: no other value of the key has the same word."""
    before = _WORDS.get(key, key.rpartition(".")[2])
    if isinstance(value, bool):
        return _plain_text(key.rpartition(".")[2] if value else f"no-{key.rpartition('.')[2]}")
    if isinstance(value, Mapping):
        return _plain_text(f"{before}-{_digest(value)}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    file = PureWindowsPath(PurePosixPath(text.removeprefix(DEMO_PREFIX)).name).name
    word = _plain_text(f"{before}{'-' if len(before) > 1 and file[:1].isalpha() else ''}{file}")
    lossless = (
        key in _chosen() or isinstance(value, int | float | list) or text == _plain_text(text)
    )
    if len(word) > _LONGEST_WORD or (apart and not lossless):
        word = f"{_plain_text(word[: _LONGEST_WORD - 7])}-{_digest(value)}"
    return word


@functools.cache
def _chosen() -> frozenset[str]:
    return frozenset(key for key, _, _ in chosen(Recipe()))


def _plain_text(text: str) -> str:
    """The text with only lower-case letters, digits, and single dots, dashes and underscores."""
    text = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    return re.sub(r"[._-]{2,}", "-", text).strip("._-")


def _digest(value: Any, digits: int = 6) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def plain_values(
    group: str, choice: str, recipe: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The section that a packaged choice of a group sets; None if the choice is not packaged.

    Args:
        group: ``model``, ``verify``, ...
        choice: the name of its file.
        recipe: the values for the file's interpolations, such as ``${n_steps}``.
    """
    values = packaged(group, choice)
    if values is None:
        return None
    schema = asdict(getattr(Recipe(), group))
    if group == "model":
        values = values | {
            "functions": {
                n: asdict(StepsConfig()) | s for n, s in values.get("functions", {}).items()
            }
        }
    found: dict[str, Any] = _filled(schema, values, recipe or {})
    return found


def _filled(schema: Any, given: Any, recipe: Mapping[str, Any]) -> Any:
    if isinstance(given, Mapping):
        known = schema if isinstance(schema, Mapping) else {}
        return {**known, **{k: _filled(known.get(k), v, recipe) for k, v in given.items()}}
    leads_to = re.fullmatch(r"\$\{([\w.]+)\}", given) if isinstance(given, str) else None
    if leads_to is None:
        return given
    value: Any = recipe
    for part in leads_to[1].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def told_apart(recipe: Recipe, overrides: Sequence[str], varied: Sequence[str]) -> Recipe:
    """The recipe with a word in its default name for every key that its sweep varies."""
    values = asdict(recipe)
    if recipe.name != default_name(values):
        return recipe
    given = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)
    return replace(
        recipe, name=default_name(values, {key: given[key] for key in varied if key in given})
    )
