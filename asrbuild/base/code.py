"""Digests of code: a module of this package with every module that it imports.

The imports are found by a scan of the text, wherever they stand: inside functions as well, and
modules that are started by name, ``"asrbuild.x.y"``. Imports for type checkers alone do not count,
for nothing runs by them. A module counts with its folder ``templates``, and with a script next to
it whose file name it has in quotes. A name that is put together only when it runs is not found:
whoever asks for the digest adds the modules that it may name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from asrbuild.base.places import PACKAGE

_NAME = PACKAGE.name
_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.M)
_FROM = re.compile(rf"^[ \t]*from ({_NAME}[\w.]*) import (\([^)]*\)|.*)", re.M)
_IMPORT = re.compile(rf"^[ \t]*import ({_NAME}[\w.]*)", re.M)
_QUOTED = re.compile(rf"\"({_NAME}(?:\.\w+)+)\"")
_SCRIPT = re.compile(r"\"(\w+\.py)\"")
_WORD = re.compile(r"\w+")
_TEMPLATES = "templates"


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 over the source of modules and of all that they import.

    Args:
        modules: paths relative to the package, for instance ``build/stages/convert.py``.
    """
    digest = hashlib.sha256()
    for path in closure(*modules):
        name = path.relative_to(PACKAGE).as_posix()
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        digest.update(_content(path) + b"\0")
    return digest.hexdigest()


def closure(*modules: str) -> list[Path]:
    """The files of modules and of all that they import, sorted."""
    counted: set[Path] = set()
    waiting = [PACKAGE / module for module in modules]
    while waiting:
        path = waiting.pop()
        if path not in counted:
            counted.add(path)
            waiting += _needs(path)
    return sorted(counted)


@cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _needs(path: Path) -> frozenset[Path]:
    """The files that a file imports, starts or fills in."""
    if path.suffix != ".py" or _TEMPLATES in path.relative_to(PACKAGE).parts:
        return frozenset()
    return frozenset(_found(path, _TYPES.sub("", _content(path).decode())))


def _found(path: Path, text: str) -> Iterator[Path]:
    yield from (folder / "__init__.py" for folder in path.parents if PACKAGE in folder.parents)
    for module, names in _FROM.findall(text):
        yield from _module(module)
        for name in _WORD.findall(names):
            yield from _module(f"{module}.{name}")
    for module in _IMPORT.findall(text):
        yield from _module(module)
    for module in _QUOTED.findall(text):
        yield from _module(module)
    for script in _SCRIPT.findall(text):
        if (path.parent / script).is_file():
            yield path.parent / script
    if "__file__" in text:
        yield from (p for p in (path.parent / _TEMPLATES).rglob("*") if _is_text(p))


def _is_text(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


@cache
def _module(name: str) -> tuple[Path, ...]:
    """The file of a dotted name; empty where it names no module."""
    base = PACKAGE.joinpath(*name.split(".")[1:])
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file() and path != PACKAGE.with_name(f"{PACKAGE.name}.py"):
            return (path,)
    return ()
