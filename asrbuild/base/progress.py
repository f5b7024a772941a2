"""The progress of a build: one line per stage, a spinner on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from asrbuild.base import terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


@dataclass(frozen=True)
class Event:
    """A message about the progress of a build.

    Args:
        kind: whether a stage has started or finished, or this is a remark.
        stage: its name; empty for a remark.
        text: what the stage does, or the remark.
        seconds: how long a finished stage took.
    """

    kind: Literal["started", "finished", "note"]
    stage: str
    text: str
    seconds: float | None = None


@dataclass
class Progress:
    """Reports the progress of a build on standard error; standard output is for the result.

    ``prefix`` names the job of a sweep. With ``on_event``, that is called and nothing is written.
    """

    prefix: str = ""
    on_event: Callable[[Event], None] | None = None
    _spinner: Any = field(default=None, init=False, repr=False)
    _under_way: list[str] = field(default_factory=list, init=False, repr=False)
    _lock: Any = field(default_factory=Lock, init=False, repr=False)

    @contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        """Shows ``doing`` while the block runs, then its duration; safe from any thread."""
        start = time.perf_counter()
        if self.on_event is not None:
            self.on_event(Event("started", name, doing))
            yield
        elif terminal.is_terminal(err=True):
            self._spin(begun=doing)
            try:
                yield
            finally:
                self._spin(ended=doing)
        else:
            yield
        self.line(name, doing, time.perf_counter() - start)

    def _spin(self, *, begun: str | None = None, ended: str | None = None) -> None:
        """Shows one spinner for all stages that run: a terminal cannot show two at once."""
        with self._lock:
            if begun is not None:
                self._under_way.append(begun)
            if ended is not None:
                self._under_way.remove(ended)
            text = f"{self.prefix}{', '.join(self._under_way)}"
            if not self._under_way:
                self._spinner.stop()
                self._spinner = None
            elif self._spinner is None:
                self._spinner = terminal.status(text)
                self._spinner.start()
            else:
                self._spinner.update(terminal.line(f"{text} …"))

    def line(
        self,
        name: str,
        text: str,
        seconds: float | None = None,
        kind: Literal["started", "finished"] = "finished",
    ) -> None:
        """Reports a finished stage and its duration, or in one line that something has started."""
        if self.on_event is not None:
            self.on_event(Event(kind, name, text, seconds))
            return
        took = "" if seconds is None else f"  {seconds:6.1f} s"
        terminal.say(f"{self.prefix}{name:<10} {text:<58}{took}", err=True)

    def note(self, text: str) -> None:
        """Reports a remark: a wait for another process, a damaged entry."""
        if self.on_event is not None:
            self.on_event(Event("note", "", text))
            return
        terminal.say(f"{self.prefix}note: {text}", err=True)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on standard error, on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TimeElapsedColumn

    console = terminal.console(err=True)
    columns = (terminal.text_column(), BarColumn(), MofNCompleteColumn())
    elapsed = TimeElapsedColumn()
    with Bars(*columns, elapsed, console=console, disable=not console.is_terminal) as shown:
        yield shown
