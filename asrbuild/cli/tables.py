"""Tables that are whole at every width."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def folding(title: str, *headings: str) -> Table:
    """A table that goes on in the next line where there is no room, and cuts nothing off."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
