"""Digests of code: a module of this package with every module that it imports.

The imports are found by a scan of the text, wherever they stand: inside functions as well, and
modules that are started by name, ``"asrbuild.x.y"``. Imports for type checkers alone do not count,
for nothing runs by them. A module counts with its folder ``templates``, and with a script next to
it whose file name it has in quotes. A name that is put together only when it runs is not found:
the caller adds the modules that it may name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from functools import cache

from asrbuild.base.places import PACKAGE

_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.M)
#: A dotted name of this package, and what is imported from it.
_NAME = re.compile(rf"{PACKAGE.name}([\w.]*)(\"| import (?:\([^)]*\)|.*))?")
_SCRIPT = re.compile(r"\"(\w+\.py)\"")
_WORD = re.compile(r"\w+")
_TEMPLATES = "templates"


@cache
def code_digest(*modules: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over the source of modules and of all that they import.

    Args:
        modules: paths relative to the package, for instance ``builder/stages/convert.py``.
        without: modules that do not count, nor what they alone import.
    """
    digest = hashlib.sha256()
    for name in closure(*modules, without=without):
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape") + _content_digest(name))
    return digest.hexdigest()


def closure(*modules: str, without: tuple[str, ...] = ()) -> list[str]:
    """The files of modules and of all that they import, relative to the package and sorted."""
    counted: set[str] = set()
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        if name not in counted and name not in without:
            counted.add(name)
            waiting += _needs(name)
    return sorted(counted)


@cache
def _content(name: str) -> bytes:
    with open(os.path.join(PACKAGE, name), "rb") as stream:
        return stream.read()


@cache
def _content_digest(name: str) -> bytes:
    return hashlib.sha256(_content(name)).digest()


@cache
def _needs(name: str) -> frozenset[str]:
    """The files that a file imports, starts or fills in."""
    if not name.endswith(".py") or f"{_TEMPLATES}/" in name:
        return frozenset()
    text = _content(name).decode()
    if "TYPE_CHECKING:" in text:
        text = _TYPES.sub("", text)
    return frozenset(_found(name, text))


def _found(name: str, text: str) -> Iterator[str]:
    folder = os.path.dirname(name)
    if folder:
        yield from _module(folder.replace("/", "."))
    for match in _NAME.finditer(text):
        module, rest = match[1].lstrip("."), match[2] or ""
        if text.endswith(("import ", "from "), 0, match.start()):
            yield from _module(module)
            for word in _WORD.findall(rest.removeprefix(" import ")):
                yield from _module(f"{module}.{word}".lstrip("."))
        elif rest == '"' and text.endswith('"', 0, match.start()):
            yield from _module(module)
    if '.py"' in text:
        yield from (script for each in _SCRIPT.findall(text) if (script := _beside(folder, each)))
    if "__file__" in text and f'"{_TEMPLATES}"' in text:
        root = PACKAGE / folder / _TEMPLATES
        files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
        yield from (path.relative_to(PACKAGE).as_posix() for path in files)


def _beside(folder: str, file: str) -> str:
    """A file of a module's own folder; empty where there is none."""
    name = f"{folder}/{file}".lstrip("/")
    return name if name in _files() else ""


@cache
def _files() -> frozenset[str]:
    """The files of the package by path: one listing is faster than a question for each import."""
    start = len(str(PACKAGE)) + 1
    return frozenset(
        f"{folder[start:]}/{file}".lstrip("/").replace(os.sep, "/")
        for folder, _, files in os.walk(PACKAGE)
        for file in files
        if file.endswith(".py")
    )


@cache
def _module(dotted: str) -> tuple[str, ...]:
    """The file of a module below the package, with those of the packages it is in."""
    parts = dotted.split(".") if dotted else []
    packages = tuple(
        name
        for depth in range(1, len(parts) + 1)
        if (name := "/".join([*parts[:depth], "__init__.py"])) in _files()
    )
    name = "/".join(parts) + ".py"
    own = (name,) if name in _files() else ()
    return (*packages, *own)
