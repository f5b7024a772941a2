"""The terminal: every line that asrbuild writes to standard output or standard error.

Text that comes from files, packages, remotes and libraries can hold escape sequences, which a
terminal obeys, and square brackets, which Rich reads as markup. The functions here write such text
as it is: control characters as visible escapes, brackets as brackets. The linter refuses ``print``,
``typer.echo``, ``sys.stdout`` and Rich's own console elsewhere in the package.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions as Options, RenderableType
    from rich.progress import TextColumn
    from rich.segment import Segment
    from rich.status import Status
    from rich.text import Text

#: Zero-width non-joiner and joiner: Persian and Indic spelling needs them, and terminals ignore
#: them.
_JOINERS = "\u200c\u200d"


def plain(text: str) -> str:
    """``text`` with visible escapes for every character that could control a terminal.

    Line feeds stay. Control characters (C0, C1, DEL), line and paragraph separators, marks that
    change the direction of text, and bytes of a file name that are not UTF-8 become ``\\x1b``,
    ``\\u202e``, ``\\xff``. The result encodes to UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _harmless(c) else _escaped(c) for c in text)


def _harmless(character: str) -> bool:
    return (
        character.isprintable()
        or character in "\n" + _JOINERS
        or unicodedata.category(character) == "Zs"
    )


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # PEP 383: a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


def say(text: str = "", *, err: bool = False) -> None:
    """Writes ``text`` and a line feed to standard output, or to standard error."""
    stream = sys.stderr if err else sys.stdout
    stream.write(plain(text) + "\n")
    stream.flush()


def say_cells(cells: Iterable[str]) -> None:
    """Writes one row of a table to standard output, its cells separated by tabs."""
    sys.stdout.write("\t".join(map(plain, cells)) + "\n")
    sys.stdout.flush()


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Writes ``value`` as JSON to standard output.

    Letters of all languages stay readable; characters that :func:`plain` escapes become JSON
    escapes, and paths become text.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=os.fspath)
    characters = (c if _harmless(c) else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write("".join(characters) + "\n")
    sys.stdout.flush()


def is_terminal(*, err: bool = False) -> bool:
    """Whether standard output, or standard error, is a terminal."""
    return (sys.stderr if err else sys.stdout).isatty()


def console(*, err: bool = False, width: int | None = None) -> Console:
    """A Rich console on standard output or standard error, for tables and coloured lines.

    It reads no markup and no emoji codes in strings, highlights nothing, and escapes as
    :func:`plain` does. Colour is given as ``style=``, or with a :class:`rich.text.Text`.
    """
    return _console_class()(stderr=err, width=width, highlight=False, markup=False, emoji=False)


def status(doing: str) -> Status:
    """Shows on a terminal that something is under way, while the context is open.

    ``update`` takes a :func:`line`: a string would be read as markup.
    """
    return console(err=True).status(line(doing))


def line(text: str, style: str = "") -> Text:
    """``text`` for Rich, escaped."""
    from rich.text import Text

    return Text(plain(text), style)


def text_column() -> TextColumn:
    """The description of a progress bar, without markup."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


@functools.cache
def _console_class() -> type[Console]:
    from rich.console import Console

    class PlainConsole(Console):
        """A Rich console that escapes all text, before tables measure it and on output."""

        def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
            if soft_wrap is None and not self.is_terminal:
                soft_wrap = True  # A file or another program gets whole lines.
            super().print(*objects, soft_wrap=soft_wrap, **options)

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain(text), **options)

        def render(
            self, renderable: RenderableType, options: Options | None = None
        ) -> Iterable[Segment]:
            return _plain_segments(super().render(renderable, options))

    return PlainConsole


def _plain_segments(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        if segment.control or segment.text.isprintable():
            yield segment
        else:
            yield segment._replace(text=plain(segment.text))
