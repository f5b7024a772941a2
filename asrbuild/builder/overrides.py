"""Overrides of a command line: checks them, and quotes values for Hydra's grammar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.builder.config_folders import require_folder

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

#: Flags of Hydra's whose value is the next argument.
_VALUED = tuple(
    """
    -c --cfg -p --package -cp --config-path -cn --config-name -cd --config-dir --experimental-rerun
    """.split()
)


def is_plain(argv: list[str]) -> bool:
    """Whether these are overrides of the recipe alone, without flags and settings of Hydra.

    ``compose_recipe`` composes such a command line once; Hydra's own run composes it twice, first
    to find out whether it is a sweep.
    """
    return not any(
        argument.startswith(("-", "experiment=", "+experiment=")) or "hydra" in argument
        for argument in argv
    )


def _free_words(override: str) -> str:
    """The override, with ``++`` if it is a hot word: Hydra adds new keys only with it."""
    key = override.partition("=")[0]
    return f"++{override}" if key.startswith("decoder.hot_words") else override


def flags_first(argv: list[str]) -> list[str]:
    """Moves flags before overrides: Hydra accepts no flag between two overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    for argument in argv:
        if argument.startswith("-") or (flags and flags[-1] in _VALUED):
            flags.append(argument)
        else:
            overrides.append(argument)
    sweep = bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in overrides
    return flags + readable(overrides, sweep=sweep)


def check_flags(arguments: list[str]) -> None:
    """Raises for unknown or misused flags; Hydra would print its usage.

    Raises:
        MisuseError: a flag is unknown, or its value is invalid.
        AsrbuildError: the configuration folder does not exist.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise MisuseError(message, fix="see `asrbuild build --help`, or `asrbuild --hydra-help`")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    if (folder := parser.parse_args(arguments).config_dir) is not None:
        require_folder(folder)


#: Values that surely need no quotes in Hydra's grammar; the others are parsed to find out.
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./-]*")


def readable(overrides: list[str], *, sweep: bool) -> list[str]:
    """The overrides with quotes around values that Hydra's grammar cannot read.

    A shell removes the quotes of ``source.path="/data/mein é.pb"``, and the grammar accepts neither
    ``é`` nor ``~`` nor a second ``=``. In a sweep each value between commas gets quotes of its own.

    Raises:
        AsrbuildError: an override has no key, or has several values outside of a sweep.
    """
    return [_free_words(_readable(override, sweep)) for override in overrides]


def varied_keys(argv: list[str]) -> list[str]:
    """The keys and groups that have several values on the command line of a sweep."""
    overrides = readable([each for each in argv if "=" in each], sweep=True)
    found = [parsed(override) for override in overrides]
    # None: a flag, or an error that Hydra reports.
    return [each.key_or_group for each in found if each and each.is_sweep_override()]


def _readable(override: str, sweep: bool) -> str:
    key, separator, value = override.partition("=")
    if not key.strip():
        raise AsrbuildError(f"{override!r} has no key", fix="write key=value")
    if not separator or _PLAIN.fullmatch(value):
        return override
    read = parsed(override)
    if read is None and value[0] not in "[{'\"":
        parts = value.split(",") if sweep else [value]
        parts = [part if parsed(f"{key}={part}") else quoted(part) for part in parts]
        legible = f"{key}={','.join(parts)}"
        return legible if parsed(legible) else override
    if read is not None and read.is_sweep_override() and not sweep:
        raise AsrbuildError(
            f"{override} is several values, and this is one build",
            key=key,
            fix="add -m to build each of them, or put a value that has a comma into quotes: "
            "\"key='a,b'\"",
        )
    return override


def quoted(value: str) -> str:
    """A value with quotes, as Hydra's grammar requires them."""
    # The grammar's rule: a backslash counts only before a quote, or in a run that ends the value.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def parsed(override: str) -> Override | None:
    """The override parsed by Hydra's grammar; None if it does not parse."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None
