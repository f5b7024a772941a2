"""``asrbuild coreai``: the environment of Apple's Core AI runtime."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.cli.options import JsonOption


def install(
    python: Annotated[
        Path | None,
        typer.Option("--python", help="The Python 3.11 to 3.14 to use; default: search for one."),
    ] = None,
) -> None:
    """Make the Python environment of Apple's Core AI runtime, and test it.

    It is in your cache folder, or in ASRBUILD_COREAI. From then on, every build of an ML program is
    witnessed: Apple's runtime runs the package as well and must agree.

    Examples:
        asrbuild coreai install
    """
    from asrbuild.coreai import environment

    path = environment.install(python)
    terminal.say(f"coreai-core {environment.VERSION} is ready: {path}")


def status(as_json: JsonOption = False) -> None:
    """Show whether Apple's Core AI runtime can run here. The exit code is 1 if it cannot.

    Examples:
        asrbuild coreai status
    """
    from asrbuild.coreai import environment

    found = environment.status()
    if as_json:
        terminal.say_json(asdict(found))
    else:
        terminal.say(found.detail)
        terminal.say(f"  environment: {found.environment}")
        terminal.say(f"  python: {found.python or 'none'}")
    if not found.ready:
        raise typer.Exit(1)


def remove() -> None:
    """Remove the environment of Apple's Core AI runtime; builds are then proven without it.

    Examples:
        asrbuild coreai remove
    """
    from asrbuild.coreai import environment

    there = environment.remove()
    where = environment.environment_dir()
    terminal.say(f"removed {where}" if there else f"there is no environment at {where}")
