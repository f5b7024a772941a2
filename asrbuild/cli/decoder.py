"""``asrbuild decoder``: the genuine ds-ctcdecoder and the Python 3.9 it lives in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal

PythonOption = Annotated[
    Path | None,
    typer.Option("--python", help="The Python 3.9 to use; found by itself if left out."),
]


def install(python: PythonOption = None) -> None:
    """Make the small Python 3.9 environment for the genuine decoder, ahead of its first use.

    It is kept in your cache folder. decoder=ds_ctcdecoder makes it too when it is needed first.

    Example: asrbuild decoder install
    """
    from asrbuild.speech.deepspeech_decoder.environment import REQUIREMENTS, decoder_python

    path = decoder_python(python)
    terminal.say(f"{REQUIREMENTS[0]} is ready: {path}")


def status(
    python: PythonOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether the genuine decoder can run here. The exit code is 1 while it cannot.

    Example: asrbuild decoder status
    """
    from asrbuild.speech.deepspeech_decoder.environment import status as look

    found = look(python)
    if as_json:
        terminal.say_json(asdict(found))
    else:
        terminal.say(found.detail)
        terminal.say(f"  environment: {found.environment}")
        terminal.say(f"  python: {found.python or 'none'}")
    if not found.ready:
        raise typer.Exit(1)
