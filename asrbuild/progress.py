"""What a person sees while a build runs: one line per stage, a spinner on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


@dataclass
class Progress:
    """Writes to standard error, so that standard output stays the result.

    ``quiet`` says nothing but notes. ``prefix`` tells the jobs of a sweep apart.
    """

    quiet: bool = False
    prefix: str = ""
    _console: Any = field(default=None, repr=False)

    def console(self) -> Any:
        """The Rich console, made when first needed: importing Rich takes a while."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, highlight=False)
        return self._console

    @contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        """Shows that ``doing`` is under way, then how long it took."""
        if self.quiet:
            yield
            return
        start = time.perf_counter()
        if sys.stderr.isatty():
            with self.console().status(f"{self.prefix}{doing} …"):
                yield
        else:
            yield
        self.line(name, doing, time.perf_counter() - start)

    def line(self, name: str, text: str, seconds: float | None = None) -> None:
        """One finished stage."""
        if not self.quiet:
            took = "" if seconds is None else f"  {seconds:6.1f} s"
            sys.stderr.write(f"{self.prefix}{name:<10} {text:<58}{took}\n")
            sys.stderr.flush()

    def note(self, text: str) -> None:
        """Something a person may wonder about: waiting for another process, a damaged entry."""
        sys.stderr.write(f"{self.prefix}note: {text}\n")
        sys.stderr.flush()


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on standard error, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    elapsed = TimeElapsedColumn()
    with Bars(*columns, elapsed, console=console, disable=not console.is_terminal) as shown:
        yield shown
