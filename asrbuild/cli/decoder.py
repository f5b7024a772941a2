"""``asrbuild decoder``: the original ds-ctcdecoder and its Python 3.9 environment."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.cli.options import JsonOption

PythonOption = Annotated[
    Path | None,
    typer.Option("--python", help="The Python 3.9 to use; default: search for one."),
]


def install(python: PythonOption = None) -> None:
    """Make the small Python 3.9 environment of the original decoder before its first use.

    It is in your cache folder. A build with decoder=ds_ctcdecoder makes it as well if needed.

    Examples:
        asrbuild decoder install
    """
    from asrbuild.speech.deepspeech_decoder.environment import REQUIREMENTS, decoder_python

    path = decoder_python(python)
    terminal.say(f"{REQUIREMENTS[0]} is ready: {path}")


def status(
    python: PythonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether the original decoder can run here. The exit code is 1 if it cannot.

    Examples:
        asrbuild decoder status
    """
    from asrbuild.speech.deepspeech_decoder.environment import status as look

    environment = look(python)
    if as_json:
        terminal.say_json(asdict(environment))
    else:
        terminal.say(environment.detail)
        terminal.say(f"  environment: {environment.environment}")
        terminal.say(f"  python: {environment.python or 'none'}")
    if not environment.ready:
        raise typer.Exit(1)
