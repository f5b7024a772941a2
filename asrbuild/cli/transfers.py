"""Shows the progress of files that are sent to a remote or fetched from one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asrbuild.base import terminal

if TYPE_CHECKING:
    from asrbuild.handover.ship.formats.header import File
    from asrbuild.handover.ship.remotes.remote import NotifyFile

#: Outside of a terminal, only larger files have a line.
_LARGE = 1 << 20


@contextmanager
def shown_transfers() -> Iterator[NotifyFile]:
    """Yields a context for each file: a line for all on a terminal, elsewhere for large files."""
    under_way: list[File] = []
    done: list[File] = []

    def summary() -> str:
        # Copied, because transfers begin and end in other threads.
        files = sorted(under_way.copy(), key=lambda file: -file.bytes)
        large = f"{files[0].path} ({files[0].bytes:,} bytes)" if files else "…"
        more = f" and {len(files) - 1} more" if files[1:] else ""
        return f"{large}{more}, {len(done)} done"

    with terminal.status("") as status:

        @contextmanager
        def shown(file: File) -> Iterator[None]:
            if not status.console.is_terminal and file.bytes >= _LARGE:
                terminal.say(f"  {file.path} ({file.bytes:,} bytes)", err=True)
            under_way.append(file)
            status.update(terminal.line(summary()))
            yield
            under_way.remove(file)
            done.append(file)
            status.update(terminal.line(summary()))

        yield shown
