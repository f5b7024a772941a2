"""A memo of composed recipes, so that a build with nothing to do does not import Hydra.

Hydra takes most of the time of such a build. Its result depends on the overrides, the packaged
``conf/``, the code, the installed libraries and plugins, and the environment variables that the
``conf/`` reads. All of them are in the name of a memo in the cache. A command line that names a
configuration folder, a variable or another cache has no memo.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from asrbuild.base.cache import RECIPES
from asrbuild.base.choices import conf_dir
from asrbuild.base.code import code_digest
from asrbuild.base.digest import canonical_json, text_digest
from asrbuild.base.disk import read_plain, write_atomically
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import installed
from asrbuild.base.ownership import others_power, trusts_shared
from asrbuild.builder.recipe import Recipe, StepsConfig, ThresholdsConfig, TunedConfig

_VARIABLE = re.compile(r"oc\.env:(\w+)")
#: Sections that are null or have keys that the user chooses -> the type of their values.
_NAMED = {
    "decoder.tuned": TunedConfig,
    "model.functions": StepsConfig,
    "verify.thresholds": ThresholdsConfig,
}


def composed(overrides: list[str]) -> Recipe | None:
    """The recipe that the same overrides gave before; None without a memo."""
    memo = _memo(overrides)
    try:
        if memo is None or (others_power(os.stat(memo)) and not trusts_shared()):
            return None
        kept = json.loads(read_plain(memo))
        if kept["sha256"] != text_digest(canonical_json(kept["recipe"])):
            return None
        recipe: Recipe = _filled(Recipe(), kept["recipe"], "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no memo, or a damaged one
    return recipe


def remember(overrides: list[str], recipe: Recipe) -> None:
    """Writes the memo of these overrides, if nothing else shaped the recipe."""
    # The memo only saves time: on a full or read-only disk the recipe is composed again, and so is
    # one with a value that is not JSON.
    with suppress(OSError, TypeError, ValueError, AsrbuildError):
        memo, values = _memo(overrides), asdict(recipe)
        if memo is None or _filled(Recipe(), json.loads(json.dumps(values)), "") != recipe:
            return
        if any(b"SearchPathPlugin" in path.read_bytes() for path in _plugins()):
            return  # it may name further configuration folders
        memo.parent.mkdir(exist_ok=True)
        kept = {"recipe": values, "sha256": text_digest(canonical_json(values))}
        write_atomically(memo, json.dumps(kept))


def _memo(overrides: list[str]) -> Path | None:
    """The file of the memo of these overrides; None if there must be no memo."""
    if any("$" in text or text.lstrip("+~").startswith("paths.") for text in overrides):
        return None
    conf = {
        path.relative_to(conf_dir()).as_posix(): path.read_text("utf-8")
        for path in sorted(conf_dir().rglob("*.yaml"))
    }
    read = {name for text in conf.values() for name in _VARIABLE.findall(text)}
    shaped_by = {
        "overrides": overrides,
        "conf": conf,
        "code": code_digest("builder/compose.py"),
        "libraries": dict(installed()),
        "plugins": [_identity(path) for path in _plugins()],
        "python": sys.version,
        "environment": {name: os.environ.get(name) for name in sorted(read | {"HOME"})},
    }
    cache = os.environ.get("ASRBUILD_CACHE", ".asrbuild/cache")
    name = f"{text_digest(canonical_json(shaped_by))[:40]}.json"
    return Path(os.path.expanduser(cache), RECIPES, name) if cache else None


def _plugins() -> Iterator[Path]:
    """Yields the files of Hydra's plugins on the path."""
    for folder in sys.path:
        yield from sorted(Path(folder or ".", "hydra_plugins").glob("**/*.py"))


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _filled(default: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """A section of a recipe with these values; ``default`` is an instance of its type."""
    given = {}
    for field in fields(default):
        key, value = f"{prefix}{field.name}", values[field.name]
        inner = getattr(default, field.name)
        if isinstance(value, dict) and is_dataclass(inner):
            value = _filled(inner, value, f"{key}.")
        elif isinstance(value, dict) and key in _NAMED:
            kind = _NAMED[key]
            named = isinstance(inner, dict)
            value = {n: kind(**v) for n, v in value.items()} if named else kind(**value)
        given[field.name] = value
    return type(default)(**given)
