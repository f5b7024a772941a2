"""Docstrings, comments and messages of asrbuild are plain English, as far as a script can tell."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
FILES = [
    path
    for folder in ("asrbuild", "benchmarks", "hydra_plugins", "tools")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
#: Words that hide the subject, or that stand for report, output or expected.
BANNED = re.compile(
    r"(?<![`{.])\b(nobody|whoever|somebody|anybody|told|heard)\b(?!:)|is let be|for ever\b",
    re.IGNORECASE,
)
#: An opening without a noun: such a first line does not name the thing.
OPENING = re.compile(r"(What|Who|Whose|Where|How|When|Those|That)\b")
#: Their docstrings are the published schema's descriptions.
PUBLISHED = {"asrbuild/artifact/manifest.py", "asrbuild/artifact/manifest2.py"}


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment, docstring and message."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and " " in token.string
        ):
            yield from enumerate(token.string.split("\n"), token.start[0])


def openings(source: str) -> Iterator[tuple[int, str]]:
    """Line and first line of each docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""


def test_no_banned_word_and_no_opening_without_a_noun() -> None:
    found = []
    assert len(FILES) > 400
    for path in FILES:
        name, source = path.relative_to(PROJECT).as_posix(), path.read_text(encoding="utf-8")
        if BANNED.search(source):
            found += [f"{name}:{at}: {text}" for at, text in prose(source) if BANNED.search(text)]
        if name not in PUBLISHED:
            found += [
                f"{name}:{at}: {doc[:80]}" for at, doc in openings(source) if OPENING.match(doc)
            ]
    assert found == []


def test_the_words_are_found() -> None:
    (line,) = [text for _, text in prose('x = 1  # nobody heard it\ny = "whoever"\n')]
    assert BANNED.findall(line) == ["nobody", "heard"]
    assert [doc for _, doc in openings('"""What it is."""') if OPENING.match(doc)]
