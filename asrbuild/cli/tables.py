"""The tables of the terminal: cells go on in the next line, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def folding(title: str, *headings: str, right: Collection[str] = ()) -> Table:
    """A table with lines around its cells; columns in ``right`` are right-aligned."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", caption_justify="left")
    _add_columns(table, headings, right)
    return table


def bare(title: str, *headings: str, right: Collection[str] = ()) -> Table:
    """A table without lines, as a section of a page; no heading is shown if all are empty."""
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


def _add_columns(table: Table, headings: tuple[str, ...], right: Collection[str]) -> None:
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
