"""Tables on a terminal of any width, and in a pipe."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,35}", fullmatch=True)
ROWS = st.lists(
    st.tuples(NAMES, NAMES, st.lists(NAMES, max_size=8).map(" ".join)), min_size=1, max_size=4
)


def shown(rows: list[tuple[str, str, str]], width: int | None) -> str:
    """The output of :func:`show` on a terminal of that width, or in a pipe."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        patch.setattr(terminal, "is_terminal", lambda: width is not None)
        patch.setattr(terminal, "console", lambda: Console(file=out, width=width, markup=False))
        table = folding("things", "name", "kind", "parts", right=("kind",))
        for row in rows:
            table.add_row(*row)
        show(table)
    return out.getvalue()


@given(ROWS, st.integers(45, 200))
def test_a_table_fits_the_terminal_without_breaking_words(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    text = shown(rows, width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    words = text.split()
    for row in rows:
        for word in " ".join(row).split():
            assert word in words


@given(ROWS)
def test_a_pipe_gets_a_line_for_each_row(rows: list[tuple[str, str, str]]) -> None:
    assert [line.split("\t") for line in shown(rows, None).splitlines()] == [
        ["things"],
        ["name", "kind", "parts"],
        *map(list, rows),
    ]


def test_only_show_prints_a_table() -> None:
    """Rich itself breaks words at the edge of a terminal, and draws a frame into a pipe."""
    package = Path(terminal.__file__).parents[1]
    printing = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"\.print\((table|side|folding|bare)\b", file.read_text(encoding="utf-8"))
    }
    assert printing == {"base/tables.py"}


def test_a_cell_cannot_add_a_column_or_steer_the_terminal() -> None:
    (*_, line) = shown([("a\tb", "c\nd", "\x1b[31mred")], None).splitlines()
    assert line == "a\\tb\tc d\t\\x1b[31mred"
