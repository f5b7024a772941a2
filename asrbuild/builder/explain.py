"""Turns errors of Hydra and OmegaConf into one message that names the key and the choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from itertools import takewhile
from typing import Any, get_args, get_origin, get_type_hints

from asrbuild.base.choices import conf_dir
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix
from asrbuild.builder.recipe import Recipe, recipe_keys

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
#: Launcher of a plugin of Hydra's -> the extra that brings it.
_LAUNCHERS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}
#: Hydra's own groups that choose what runs a sweep -> their choices.
HYDRA_GROUPS = {
    "hydra/launcher": ("basic", "ray", *_LAUNCHERS),
    "hydra/sweeper": ("basic", "optuna"),
}
#: A choice of Hydra's groups that has keys which the usual choice has not.
_CHOICES = {"launcher": "joblib", "sweeper": "optuna"}
#: Of similar keys, those are named that are nearly as similar as the most similar one.
_NEARLY = 0.15


def explain(error: BaseException, overrides: Sequence[str]) -> AsrbuildError:
    """The error for an exception of Hydra or OmegaConf, made from the exception's fields.

    Args:
        error: the exception; its causes count, too.
        overrides: those of the command line, to quote a value as it was typed.
    """
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        InterpolationResolutionError,
        ValidationError,
    )

    key = None
    for link in _chain(error):
        key = getattr(link, "full_key", None) or key
        match link:
            case AsrbuildError():
                return link
            case MissingConfigException(missing_cfg_file=str(file)) if "/" in file:
                return _no_such_choice(file, link.options or [])
            case OverrideParseException(override=override):
                return _unreadable(override, overrides)
            case ConfigAttributeError() | ConfigKeyError() if key:
                return unknown_key(key)
            case ValidationError() if _is_typed(key) and not isinstance(
                link, InterpolationResolutionError
            ):
                return _wrong_type(str(key), link.value, overrides)
            case ValidationError() if str(key).startswith("hydra."):
                return AsrbuildError(
                    f"{key} has the wrong type: {str(link.msg).splitlines()[0]}",
                    key=key,
                    fix=f"`asrbuild --cfg hydra -p {str(key).rpartition('.')[0]}` prints its "
                    "present value",
                )
    for override in overrides:
        name = override.partition("=")[0].lstrip("+~")
        if (section := _null_section(name)) is not None:
            return AsrbuildError(
                f"{section} is null, so {name} cannot be set alone",
                key=name,
                fix=f"leave {name} out; `tune=scorer` writes a decoder with the whole section",
            )
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    composing = isinstance(error, (HydraException, OmegaConfBaseException))
    lines = [line for line in str(error).splitlines() if line.strip()]
    first = next((line for line in lines if "HYDRA_FULL_ERROR" not in line), repr(error))
    if first.endswith(":") and first != lines[-1]:
        first += f" {lines[lines.index(first) + 1].strip()}"
    if not composing:
        return AsrbuildError(
            f"a launcher, sweeper or callback of Hydra failed: {first}",
            fix="change or leave out its settings, which `asrbuild --cfg hydra` prints; --debug "
            "shows the traceback",
        )
    return AsrbuildError(
        f"the config does not compose: {first}",
        key=key,
        fix="print what composes with `asrbuild --cfg job`; --debug shows the traceback",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, its cause, the cause of that cause, and so on."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _unreadable(override: str, overrides: Sequence[str]) -> AsrbuildError:
    """The error for an argument that Hydra's grammar does not read as an override."""
    key, equals, value = override.partition("=")
    if not equals:
        fix = f"write {override}=value; a command comes first"
        before = overrides[: overrides.index(override)] if override in overrides else ()
        # Else most often a value with a space, which the shell has split.
        if before and "=" in before[-1] and override not in _keys():
            fix = (
                f"write several values without spaces: {before[-1]},{override}"
                if {"-m", "--multirun"} & set(overrides) or before[-1].endswith(",")
                else f"a value with a space requires quotes: '{before[-1]} {override}'"
            )
        return AsrbuildError(f"{override} is not an override", fix=fix)
    behind = overrides[overrides.index(override) + 1 :] if override in overrides else ()
    words = takewhile(lambda word: "=" not in word and not word.startswith("-"), behind)
    values = [each for word in (value, *words) for each in word.split(",") if each.strip()]
    if value[:1] in ("[", "{", "'", '"'):
        fix = f"close every bracket and quote; a value of text: {key}=\"'…'\""
    elif values and values != value.split(","):
        fix = f"write {key}={','.join(values)}"
    else:
        fix = "write key=value, with the key as `asrbuild --cfg job` prints it"
    return AsrbuildError(f"{override} is not an override", key=key, fix=fix)


def _null_section(key: str) -> str | None:
    """The section above a key that is null in the recipe's schema; None if no section is."""
    value: Any = Recipe()
    parts = key.split(".")
    for depth, part in enumerate(parts[:-1], start=1):
        value = getattr(value, part, value)
        if value is None:
            return ".".join(parts[:depth])
    return None


def _no_such_choice(file: str, options: Sequence[str]) -> AsrbuildError:
    group, _, name = file.rpartition("/")
    if group == "hydra/launcher" and (extra := _LAUNCHERS.get(name)):
        return AsrbuildError(
            f"hydra/launcher={name} requires the extra {extra}, which is not installed",
            key=group,
            fix=install_fix(extra),
        )
    return AsrbuildError(
        f"{group}={name} is not a choice",
        key=group,
        fix=f"choose one of {', '.join(options)}" if options else f"see conf/{group}/",
    )


def _is_typed(key: str | None) -> bool:
    """Whether this is a whole key of the recipe; OmegaConf names some without their section."""
    return key is not None and key.partition(".")[0] in vars(Recipe())


def _wrong_type(key: str, value: Any, overrides: Sequence[str]) -> AsrbuildError:
    """The error for a value of the wrong type, as typed or as a configuration file has it."""
    typed = (override.partition("=") for override in overrides)
    texts = [text for name, _, text in typed if name.lstrip("+~") == key]
    text = texts[-1] if texts else "null" if value is None else str(value)
    if str(value) in text.split(","):  # one of the values of a sweep
        text = str(value)
    null = ", not null" if text == "null" else ""
    return AsrbuildError(f"{key}={text} has the wrong type", key=key, fix=f"{_accepted(key)}{null}")


def _accepted(key: str) -> str:
    """The values that a key of the recipe accepts, in words."""
    kind: Any = Recipe
    for part in key.split("."):
        if is_dataclass(kind):
            kind = get_type_hints(kind).get(part)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        alternatives = [each for each in get_args(kind) if each is not type(None)]
        if type(None) in get_args(kind):
            kind = alternatives[0]
    if get_origin(kind) is list:
        return f"give a list: {key}=[a,b]"
    if get_origin(kind) is dict or is_dataclass(kind):
        below = [name for name in recipe_keys() if name.startswith(f"{key}.")]
        return f"it is a section: set {' or '.join(below[:4]) or f'{key}.<name>'}"
    return f"give {_KINDS.get(kind, 'one value')}"


def unknown_key(name: str) -> AsrbuildError:
    """The error for a key that is not in the schema, with similar keys."""
    if name.startswith("hydra."):
        part = next((p for p in ("sweeper", "launcher") if name.startswith(f"hydra.{p}.")), None)
        return AsrbuildError(
            f"unknown key {name}",
            key=name,
            fix="print Hydra's keys with `asrbuild --cfg hydra`"
            if part is None
            else f"choose the {part} that has it, for example hydra/{part}={_CHOICES[part]}: "
            f"`asrbuild hydra/{part}={_CHOICES[part]} --cfg hydra -p hydra.{part}` prints its keys",
        )
    known = _keys()
    close = _similar(name, known)
    section = name.rpartition(".")[0]
    if section.startswith("source.config"):  # names of the model, or settings of its features
        return AsrbuildError(
            f"unknown key {name}", key=name, fix=f"type a plus to add it: +{name}=..."
        )
    listed = [key for key in known if section and key.startswith(section + ".")] or [
        key for key in known if "." not in key
    ]
    return AsrbuildError(
        f"unknown key {name}",
        key=name,
        fix=("did you mean " + " or ".join(close) + "?")
        if close
        else "known here: " + ", ".join(listed),
    )


def _keys() -> list[str]:
    """The config groups, then the dotted keys of a recipe."""
    groups = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
    return list(dict.fromkeys([*groups, *recipe_keys()]))


def _similar(name: str, known: Sequence[str]) -> list[str]:
    """The keys whose last word is the name; if there are none, the most similar keys."""
    from difflib import SequenceMatcher, get_close_matches

    if same := [key for key in known if key.rpartition(".")[2] == name]:
        return same[:3]
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    ratios = [SequenceMatcher(None, each, name).ratio() for each in close]
    return [each for each, ratio in zip(close, ratios, strict=True) if ratio > ratios[0] - _NEARLY]
