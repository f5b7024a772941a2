"""Digests of code: of a module of this package and of every module that it imports.

The imports are found by a scan of the text, wherever they stand: inside functions as well, and
modules that are started by name, ``"asrbuild.x.y"``. Imports for type checkers alone do not count,
because they never run. A module counts with its folder ``templates``, and with a script next to it
whose file name it has in quotes. A module name that is composed at run time is not found: the
caller adds the modules that it may name. For a module with functions of many kinds, the caller can
count the imports of some functions alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from functools import cache

from asrbuild.base.places import PACKAGE

_TYPES = re.compile(r"\nif TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+")
#: A dotted name of this package, and the names imported from it.
_NAME = re.compile(rf"{PACKAGE.name}([\w.]*)(\"| import (?:\([^)]*\)|.*))?")
#: A function at the top level of a module: its name, and its text.
_FUNCTION = re.compile(r"^def (\w+)\(.*\n(?:[ \t)].*\n|\n)*", re.M)
_QUOTED = re.compile(r"\"[^\"]*\"")
_SCRIPT = re.compile(r"\"(\w+\.py)\"")
#: A possible function name: not an attribute, not assigned, and without attributes.
_FREE = re.compile(r"(?<![.\w])\w+(?!\w|\.| =)")
_WORD = re.compile(r"\w+")
_TEMPLATES = "templates"
#: This module does not shape any result.
_VERSION = "base/version.py"


@cache
def code_digest(
    *modules: str, without: tuple[str, ...] = (), calls: tuple[str, ...] | None = None
) -> str:
    """SHA-256 over the source of modules and of all that they import.

    Args:
        modules: paths relative to the package, for instance ``builder/stages/convert.py``.
        without: modules that do not count; nor do modules that only they import.
        calls: functions of the last of ``modules``. Imports in its other functions do not count,
            unless one of these calls them.
    """
    digest = hashlib.sha256()
    for name in closure(*modules, without=without, calls=calls):
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape") + _content_digest(name))
    return digest.hexdigest()


def closure(
    *modules: str, without: tuple[str, ...] = (), calls: tuple[str, ...] | None = None
) -> list[str]:
    """The files of modules and of all that they import, relative to the package and sorted."""
    counted: set[str] = set()
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        if name not in counted and name not in (*without, _VERSION):
            counted.add(name)
            waiting += _needs(name, calls if name == modules[-1] else None)
    return sorted(counted)


@cache
def _content(name: str) -> bytes:
    with open(os.path.join(PACKAGE, name), "rb", buffering=0) as stream:
        return stream.read()


@cache
def _content_digest(name: str) -> bytes:
    return hashlib.sha256(_content(name)).digest()


@cache
def _needs(name: str, calls: tuple[str, ...] | None = None) -> frozenset[str]:
    """The files that a file imports, starts or fills in, and the packages that contain it."""
    if not name.endswith(".py") or f"{_TEMPLATES}/" in name:
        return frozenset()
    text, modules = _content(name).decode(), _modules()
    if "TYPE_CHECKING:" in text:
        text = _TYPES.sub("\n", text)
    if calls is not None:
        text = _only(text, calls)
    folder = os.path.dirname(name)
    parts = folder.split("/")
    needed = {modules.get(".".join(parts[:depth])) for depth in range(1, len(parts) + 1)}
    for match in _NAME.finditer(text):
        if text.endswith(("import ", "from "), 0, match.start()):
            needed |= _imported(match[1].lstrip("."), match[2] or "")
        elif match[2] == '"' and text.endswith('"', 0, match.start()):
            needed.add(modules.get(match[1].lstrip(".")))
    if '.py"' in text:
        files = set(modules.values())
        beside = (f"{folder}/{file}".lstrip("/") for file in _SCRIPT.findall(text))
        needed.update(path for path in beside if path in files)
    if "__file__" in text and f'"{_TEMPLATES}"' in text:
        paths = _below(os.path.join(PACKAGE, folder, _TEMPLATES))
        needed.update(path for path in paths if not path.endswith(".pyc"))
    return frozenset(path for path in needed if path)


def _only(text: str, calls: tuple[str, ...]) -> str:
    """The text of a module, reduced to the functions that its top level or ``calls`` reach.

    Strings at its top level do not count, such as names of keys and of modules.
    """
    functions = {match[1]: match[0] for match in _FUNCTION.finditer(text)}
    top = _QUOTED.sub("", _FUNCTION.sub("", text))
    waiting = [*calls, *_FREE.findall(top)]
    kept: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in kept:
            kept.add(name)
            waiting += _FREE.findall(_QUOTED.sub("", functions[name]))
    return "".join([top, *(functions[name] for name in kept)])


@cache
def _imported(module: str, names: str) -> frozenset[str | None]:
    """The file of a module, and the files of those ``names`` that are its submodules."""
    modules = _modules()
    words = _WORD.findall(names.removeprefix(" import "))
    inner = (modules.get(f"{module}.{word}".lstrip(".")) for word in words)
    return frozenset([modules.get(module), *inner])


@cache
def _modules() -> dict[str, str]:
    """Maps dotted names below the package to files; one listing is faster than many."""
    files = (path for path in _below(str(PACKAGE)) if path.endswith(".py"))
    return {path[:-3].removesuffix("/__init__").replace("/", "."): path for path in files}


def _below(folder: str) -> Iterator[str]:
    """The files in a folder of the package and below it, relative to the package."""
    start = len(str(PACKAGE)) + 1
    for inside, _, files in os.walk(folder):
        prefix = inside[start:].replace(os.sep, "/")
        yield from (f"{prefix}/{file}".lstrip("/") for file in files)
