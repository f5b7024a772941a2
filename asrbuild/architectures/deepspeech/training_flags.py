"""Reads ``flags.txt``: the flags of a training run of DeepSpeech or Coqui STT.

DeepSpeech 0.6 to 0.9 write absl's ``FLAGS.flags_into_string()``: one argument a line,
``--name=value``, and ``--name`` or ``--noname`` of a boolean; the last one counts. Coqui STT writes
one JSON object.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import FLAGS
from asrbuild.base.kinds.recognition import require

FILE_NAME = "flags.txt"
#: The flags that describe a model -> their types. ``utf8`` is DeepSpeech 0.6's name of
#: ``bytes_output_mode``.
_TYPES: dict[str, type] = {
    "alphabet_config_path": str,
    "audio_sample_rate": int,
    "bytes_output_mode": bool,
    "utf8": bool,
    "export_beam_width": int,
    "export_language": str,
    "feature_win_len": int,
    "feature_win_step": int,
    "layer_norm": bool,
    "lm_alpha": float,
    "lm_beta": float,
    "n_hidden": int,
    "relu_clip": float,
    # Flags of DeepSpeech 0.6 alone.
    "es_mean_th": float,
    "use_cudnn_rnn": bool,
}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TRUTH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
#: Limit of nested files of ``--flagfile``; absl has none, but a loop would have no end.
_DEEPEST = 8


@dataclass(frozen=True)
class Flag:
    """The value of one flag, with its file and its line, counted from 1."""

    value: Any
    file: Path
    line: int


def read_flags(path: Path) -> dict[str, Flag]:
    """Name -> flag of a training run, for flags that describe the model and are not empty.

    Raises:
        AsrbuildError: the file is not a list of flags, a value has another type, or a file of
        ``--flagfile`` is missing.
    """
    text = _text(path)
    given = _json(text, path) if text.lstrip()[:1] == "{" else _lines(text, path)
    found: dict[str, Flag] = {}
    for name, flag in given:
        value = _typed(name, flag)
        found.pop(name, None)
        if value is not None:
            found[name] = Flag(value, flag.file, flag.line)
    return found


def _text(path: Path) -> str:
    require(path, FLAGS)
    try:
        data = path.read_bytes()
        wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_flags(path) from error


def _not_flags(path: Path) -> AsrbuildError:
    return AsrbuildError(
        f"{path.name} is not the flags of a training run",
        file=path,
        fix="copy the flags.txt of the training run again, or move this file out of the folder",
    )


def _json(text: str, path: Path) -> Iterator[tuple[str, Flag]]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise _not_flags(path) from error
    lines = re.split(r"\r\n|\r|\n", text)
    for name in (name for name in _TYPES if name in values):
        line = next((n for n, raw in enumerate(lines, 1) if f'"{name}"' in raw), 1)
        yield name, Flag(values[name], path, line)


def _lines(text: str, path: Path, depth: int = 0) -> Iterator[tuple[str, Flag]]:
    """Yields each flag in order; a file of ``--flagfile`` is included in its place."""
    lines = re.split(r"\r\n|\r|\n", text)
    if not any(line.lstrip().startswith("-") for line in lines):
        raise _not_flags(path)
    number = 0
    while number < len(lines):
        number += 1
        argument = lines[number - 1].strip()
        if not argument.startswith("-"):
            continue
        name, value, taken = _argument(argument, lines[number:])
        if name == "flagfile" and value:
            yield from _nested(str(value), path, number, depth)
        elif name in _TYPES:
            yield name, Flag(value, path, number)
        number += taken


def _argument(argument: str, after: list[str]) -> tuple[str, str | bool, int]:
    """Name, value and number of further lines of an argument.

    Its form is ``--name=value``, ``--name value``, ``--name`` or ``--noname``; the value may be on
    a line of its own.
    """
    name, separator, value = argument.lstrip("-").partition("=")
    if separator:
        return name.strip(), value.strip(), 0
    name, _, value = name.partition(" ")
    if value.strip():
        return name, value.strip(), 0
    if name.startswith("no") and _TYPES.get(name[2:]) is bool:
        return name[2:], False, 0
    if _TYPES.get(name) is bool:
        return name, True, 0
    following = after[0].strip() if after else ""
    if following and not following.startswith(("-", "#", "//")):
        return name, following, 1
    return name, "", 0


def _nested(named: str, path: Path, line: int, depth: int) -> Iterator[tuple[str, Flag]]:
    file = path.with_name(re.split(r"[\\/]", named)[-1])
    if not os.path.isfile(file) or depth == _DEEPEST or file == path:
        raise AsrbuildError(
            f"{path.name} takes flags from {named}, which is not beside it",
            file=f"{path}, line {line}",
            fix=f"copy {file.name} into {path.parent}",
        )
    yield from _lines(_text(file), file, depth + 1)


def _typed(name: str, flag: Flag) -> Any:
    """The value in the type of its flag; None if it is empty or a placeholder."""
    kind, value = _TYPES[name], flag.value
    if value is None or value == "":
        return None
    try:
        if kind is bool:
            return value if isinstance(value, bool) else _TRUTH[str(value).lower()]
        if kind is str:
            # Coqui and DeepSpeech 0.9 write a description in <> if nothing was given.
            return None if re.fullmatch(r"<.*>", str(value), re.DOTALL) else str(value)
        if isinstance(value, bool):
            raise ValueError
        return kind(value)
    except (KeyError, TypeError, ValueError) as error:
        raise AsrbuildError(
            f"--{name} is {value!r}, not {_KINDS[kind]}",
            file=f"{flag.file}, line {flag.line}",
            fix="copy the flags.txt of the training run again",
        ) from error
