"""Prose and names of tests are plain English, as far as a script can tell."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.paths import ROOT, python_files

#: Words that hide the subject, or that stand for report, output or expected.
BANNED = re.compile(
    r"(?<![`{.])\b(nobody|whoever|somebody|anybody|told|heard)\b(?!:)|is let be|for ever\b",
    re.IGNORECASE,
)
#: An opening without a noun: such a docstring's first line does not name the thing.
OPENING = re.compile(r'"""(What|Who|Whose|Where|How|When|Those|That)\b.*')
#: Names of tests with these openings or words state no behaviour, or hide its subject.
VAGUE = re.compile(
    r"def (test_(?:what|who|whose|where|how|when|those|that)"
    r"|test(?:_\w+)?_(?:nobody|whoever|somebody|anybody|told|heard))(?![a-z0-9])"
)
#: Their docstrings are the published schema's descriptions.
PUBLISHED = {"asrbuild/artifact/manifest.py", "asrbuild/artifact/manifest2.py"}


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment, docstring and message."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and " " in token.string
        ):
            yield from enumerate(token.string.split("\n"), token.start[0])


def remarks(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment and docstring: other strings of a test are often data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_no_banned_word_and_no_opening_without_a_noun() -> None:
    found = []
    assert len(python_files()) > 800
    for path in python_files():
        name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        texts = remarks if name.startswith("tests/") else prose
        if BANNED.search(source):
            found += [f"{name}:{at}: {text}" for at, text in texts(source) if BANNED.search(text)]
        if name not in PUBLISHED:
            found += [f"{name}: {opening[0]}" for opening in OPENING.finditer(source)]
        found += [f"{name}: {definition[0]}" for definition in VAGUE.finditer(source)]
    assert found == []


def test_the_words_are_found() -> None:
    (line,) = [text for _, text in prose('x = 1  # nobody heard it\ny = "whoever"\n')]
    assert BANNED.findall(line) == ["nobody", "heard"]
    assert [at for at, text in remarks('x = "told"  # told') if BANNED.search(text)] == [1]
    assert OPENING.search('"' * 3 + "What it is.")
    assert not OPENING.search('"' * 3 + "Whatever it is.")
    for name in ("test_what_is_no_package", "test_a_failure_is_told", "test_nobody_knows"):
        assert VAGUE.search(f"def {name}() -> None:"), name
    assert not VAGUE.search("def test_whole_files_are_read() -> None:")
