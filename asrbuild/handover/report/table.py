"""Tables that sort, and a plot of two of their columns: what pages that compare have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asrbuild.handover.report.html import figure_text


@dataclass(frozen=True)
class Column:
    """One fact of every entry.

    Args:
        key: what an entry keeps it under.
        heading: what a person reads.
        number: numeric; such a column can be an axis of the plot.
        log: it spans powers of ten, so its axis does.
        text: how a number is written; empty: in three digits.
    """

    key: str
    heading: str
    number: bool = True
    log: bool = False
    text: str = ""


@dataclass(frozen=True)
class Entry:
    """One row.

    Args:
        number: what the plot calls it.
        name: what sorts its first cell, and what the plot says of it.
        facts: column key -> value; a key that is missing is unknown, or does not apply.
        kind: what its mark in the plot is coloured by; empty: it has none.
        bad: keys of facts that are not as they should be.
        error: told in full below the row.
        about: what the page writes its first cell from.
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
    """``value`` sorts it, ``text`` is read."""

    column: Column
    value: str
    text: str
    bad: bool


@dataclass(frozen=True)
class Table:
    """What the templates draw. ``marks``: kind -> the style class of its marks in the plot."""

    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    cells: Mapping[int, tuple[Cell, ...]]
    marks: Mapping[str, str] = field(default_factory=dict)


def make_table(
    columns: Sequence[Column], entries: Sequence[Entry], marks: Mapping[str, str] | None = None
) -> Table:
    """The columns that any entry has a value for, with all entries.

    Args:
        marks: kind -> style class, where a kind is not to get the next of the usual ones.
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
