"""Tables for the terminal, which never break a word, and plain lines for a pipe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from asrbuild.base import terminal

if TYPE_CHECKING:
    from rich.table import Column, Table
    from rich.text import Text

#: Cells up to this many characters are never wrapped, words up to this many never broken.
_SHORT, _WORD = 24, 40
#: Spaces between two columns.
_BETWEEN = 2


def folding(title: str, *headings: str, right: Collection[str] = ()) -> Table:
    """A table with lines, for :func:`show`; ``right``: right-aligned columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=title or None,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _BETWEEN - 1, 0, 0),
    )
    _add_columns(table, headings, right)
    return table


def bare(title: str, *headings: str, right: Collection[str] = ()) -> Table:
    """A table without lines, as a section of a page, for :func:`show`; headings may be empty."""
    from rich.table import Table

    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold cyan",
        show_header=any(headings),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    _add_columns(table, headings, right)
    return table


def show_rows(title: str, headings: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints rows as a :func:`folding` table; nothing if there are none."""
    table = folding(title, *headings)
    for row in rows:
        table.add_row(*map(str, row))
    if table.row_count:
        show(table)


def show(table: Table) -> None:
    """Prints a :func:`folding` or :func:`bare` table to standard output.

    In a terminal that is too narrow for the longest word of each column, a row is a paragraph. In a
    pipe or a file a row is a line, its cells separated by tabs, and the headings are the first one.
    """
    headings, *rows = zip(*(_cells(column) for column in table.columns), strict=True)
    if not terminal.is_terminal():
        if table.title:
            terminal.say(str(table.title))
        named = [headings] if any(heading.plain for heading in headings) else []
        for row in (*named, *rows):
            terminal.say_cells([" ".join(cell.plain.split()) for cell in row])
        if table.caption:
            terminal.say(str(table.caption))
        return
    console = terminal.console()
    widths = _widths(table.columns, console.width)
    if widths is not None:
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
        console.print(table)
        return
    if table.title:
        console.print(str(table.title), style="italic")
    for row in rows:
        _print_paragraph(headings, row)
    if table.caption:
        console.print(str(table.caption), style="italic")


def _print_paragraph(headings: tuple[Text, ...], row: tuple[Text, ...]) -> None:
    """Prints a row as its first cell, and below it the others with their headings."""
    from rich.padding import Padding
    from rich.text import Text

    console = terminal.console()
    if row[0].plain:
        # A number alone is not a name.
        kind = f"{headings[0].plain} " if row[0].plain.isdigit() else ""
        console.print(Text.assemble(kind, row[0], style="bold"))
    lines: list[Text] = []
    for heading, cell in zip(headings[1:], row[1:], strict=True):
        if not cell.plain:
            continue
        fact = Text.assemble((f"{heading.plain} " if heading.plain else "", "dim"), cell)
        if lines and lines[-1].cell_len + fact.cell_len + 3 <= console.width - 2:
            lines[-1] = Text(" · ").join([lines[-1], fact])
        else:
            lines.append(fact)
    console.print(Padding(Text("\n", overflow="fold").join(lines), (0, 0, 0, 2)))


def _add_columns(table: Table, headings: tuple[str, ...], right: Collection[str]) -> None:
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")


def _cells(column: Column) -> list[Text]:
    """The heading of a column and its cells."""
    from rich.text import Text

    cells = [column.header, *column.cells]
    return [each if isinstance(each, Text) else terminal.line(str(each)) for each in cells]


def _widths(columns: Collection[Column], width: int) -> list[int] | None:
    """The width of each column; None if there is not enough room for all."""
    from rich.cells import cell_len

    least, wish = [], []
    for column in columns:
        lines = [line for cell in _cells(column) for line in cell.plain.split("\n")]
        words = (word for line in lines for word in line.split())
        whole = max(map(cell_len, lines))
        least.append(whole if whole <= _SHORT else min(_WORD, max(map(cell_len, words), default=0)))
        wish.append(whole)
    spare = width - _BETWEEN * len(least) - sum(least)
    if spare < 0:
        return None
    # The narrowest column is served first, so that one long column takes only the rest.
    order = sorted(range(len(least)), key=lambda at: wish[at] - least[at])
    for left, at in zip(range(len(order), 0, -1), order, strict=True):
        more = min(wish[at] - least[at], spare // left)
        least[at] += more
        spare -= more
    return least
