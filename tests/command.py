"""``asrbuild`` command lines in the process of the tests; errors of asrbuild are raised."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest

from asrbuild.cli.main import dispatch


def run(*arguments: object) -> int:
    """The exit code of a command."""
    return dispatch([str(argument) for argument in arguments])


def output(*arguments: object) -> str:
    """The standard output of a command that succeeds, 200 columns wide."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(written):
        patch.setenv("COLUMNS", "200")
        code = run(*arguments)
    assert code == 0, written.getvalue()
    return written.getvalue()


def values(*arguments: object) -> Any:
    """The values that a command prints with ``--json``."""
    return json.loads(output(*arguments, "--json"))
