"""A sortable table with a plot of two of its columns, for the pages that compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asrbuild.handover.report.html import figure_text


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        key: of ``Entry.facts``.
        heading: as shown.
        number: numeric; a numeric column can be an axis of the plot.
        log: its axis is logarithmic.
        text: format of its numbers; empty: three significant digits.
        better: ``low`` or ``high``, by which the plot finds its front; empty: neither is.
        choice: a key that a sweep varies; it can be an axis even if its values are words.
    """

    key: str
    heading: str
    number: bool = True
    log: bool = False
    text: str = ""
    better: str = ""
    choice: bool = False

    @property
    def scale(self) -> str:
        """The scale of the plot's axis; empty: it can be no axis."""
        if self.number:
            return "log" if self.log else "linear"
        return "words" if self.choice else ""


@dataclass(frozen=True)
class Entry:
    """One row.

    Args:
        number: its label in the plot.
        name: sorts its first cell and describes its mark in the plot.
        facts: column key -> value; a key that is missing is unknown, or does not apply.
        kind: colours its mark in the plot; empty: it has no mark.
        bad: keys of facts that are shown as faults.
        error: shown in full below the row.
        about: the value that the page makes the first cell from.
    """

    number: int
    name: str
    facts: Mapping[str, float | str]
    kind: str = ""
    bad: frozenset[str] = frozenset()
    error: str = ""
    about: Any = None


@dataclass(frozen=True)
class Cell:
    """One cell: ``value`` sorts it, ``text`` is shown."""

    column: Column
    value: str
    text: str
    bad: bool


@dataclass(frozen=True)
class Table:
    """A table as the templates draw it.

    Args:
        columns: those that any entry has a value for.
        cells: number of an entry -> its cells, one a column.
        marks: kind -> style class of its marks in the plot.
    """

    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    cells: Mapping[int, tuple[Cell, ...]]
    marks: Mapping[str, str] = field(default_factory=dict)


def make_table(
    columns: Sequence[Column], entries: Sequence[Entry], marks: Mapping[str, str] | None = None
) -> Table:
    """A table of all entries and of the columns that any entry has a value for.

    Args:
        marks: kind -> style class; other kinds get the usual ones in order.
    """
    marks = marks or {}
    known = {key for entry in entries for key in entry.facts}
    shown = tuple(column for column in columns if column.key in known)
    kinds = dict.fromkeys(entry.kind for entry in entries if entry.kind)
    usual = [kind for kind in kinds if kind not in marks]
    styles = {kind: f"bar-{number % 4 + 1}" for number, kind in enumerate(usual)}
    return Table(
        columns=shown,
        entries=tuple(entries),
        cells={e.number: tuple(_cell(e, column) for column in shown) for e in entries},
        marks={kind: marks.get(kind) or styles[kind] for kind in kinds},
    )


def _cell(entry: Entry, column: Column) -> Cell:
    value = entry.facts.get(column.key)
    bad = column.key in entry.bad
    if value is None or isinstance(value, str):
        return Cell(column, value or "", value or "", bad)
    text = column.text.format(value) if column.text else figure_text(value)
    return Cell(column, repr(float(value)), text, bad)
